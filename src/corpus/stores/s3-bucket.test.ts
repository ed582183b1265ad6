import { expect, test } from 'bun:test';
import type { Socket } from 'node:net';
import { type ClientClock, portableClock } from '../../client/cancellation.ts';
import { startRawHttpServer } from '../../testing/raw-http-server.ts';
import { openS3Bucket } from './s3-bucket.ts';

/** Opens a bucket on this machine whose every answer is an error of this code. */
function refusing(code: string) {
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    fetch: () =>
      new Response(`<Error><Code>${code}</Code><Message>No.</Message></Error>`, { status: 403 }),
  });
  const bucket = openS3Bucket({
    bucket: 'laws',
    environment: {
      AWS_ENDPOINT_URL: `http://127.0.0.1:${server.port}`,
      AWS_ACCESS_KEY_ID: 'tester',
      AWS_SECRET_ACCESS_KEY: 'secret',
    },
    clock: portableClock,
    signal: new AbortController().signal,
    code: 'CORPUS_SOURCE_INVALID',
    patienceMs: 0,
    say: () => {},
  });
  return { bucket, server };
}

test.each([
  ['ExpiredToken', 'ExpiredToken; set new AWS_ keys, and run it again'],
  ['RequestTimeTooSkewed', 'RequestTimeTooSkewed; the clock of this machine is off'],
  ['PermanentRedirect', 'PermanentRedirect; the bucket is in another region: set AWS_REGION'],
  ['AccessDenied', 'AccessDenied'],
])('a refusal tells its code, and what to do about it: %s', async (code, words) => {
  const { bucket, server } = refusing(code);
  try {
    await expect(Array.fromAsync(bucket.open('a.jsonl', { from: 0 }))).rejects.toThrow(
      `s3://laws/a.jsonl: GET answered 403: ${words}.`,
    );
    await expect(bucket.putIfAbsent('part', 'rows')).rejects.toThrow(`PUT answered 403: ${words}.`);
    await expect(bucket.list('a/')).rejects.toThrow(
      `s3://laws/a/: the listing failed with ${words}`,
    );
  } finally {
    await server.stop(true);
  }
});

/** No time passes but what is waited for. */
function clockOfWaits(): ClientClock {
  let nowMs = 0;
  return {
    now: () => nowMs,
    schedule(delayMs, action) {
      nowMs += delayMs;
      queueMicrotask(action);
      return () => {};
    },
  };
}

/**
 * A bucket on this machine that gives these answers in turn, the last one for ever. One that is cut
 * off is ended when its first piece was read.
 */
async function answering(answers: readonly string[], patienceMs: number) {
  let count = 0;
  let cut: Socket | undefined;
  const server = await startRawHttpServer({
    port: 0,
    onRequest(_, socket) {
      const answer = answers[count++] ?? answers.at(-1);
      if (answer === CUT) cut = socket;
      if (answer === CUT) socket.write(answer);
      else socket.end(answer);
    },
    onProblem: (problem) => expect().fail(problem),
  });
  const said: string[] = [];
  const bucket = openS3Bucket({
    bucket: 'laws',
    environment: {
      AWS_ENDPOINT_URL: `http://127.0.0.1:${server.port}`,
      AWS_ACCESS_KEY_ID: 'tester',
      AWS_SECRET_ACCESS_KEY: 'secret',
    },
    clock: clockOfWaits(),
    signal: new AbortController().signal,
    code: 'CORPUS_SOURCE_FAILED',
    patienceMs,
    say: (words) => void said.push(words),
  });
  const read = async () => {
    const pieces: Uint8Array[] = [];
    for await (const piece of bucket.open('a.jsonl', { from: 0 })) {
      pieces.push(piece);
      cut?.destroy();
    }
    return Buffer.concat(pieces).toString();
  };
  const first = await bucket.read('first').catch((error: Error) => error.message);
  const then = await read().catch((error: Error) => error.message);
  await server.stop();
  return { first, then, said, count };
}

function answerOf(status: string, body: string, bytes = body.length): string {
  return `HTTP/1.1 ${status}\r\nContent-Length: ${bytes}\r\nConnection: close\r\n\r\n${body}`;
}
const BUSY = answerOf('503 Slow Down', '');
const WHOLE = answerOf('200 OK', 'all of it');
const CUT = answerOf('200 OK', 'all', 9);

test('a bucket that has answered is waited for, and it is said', async () => {
  const { then, said } = await answering([WHOLE, ...Array(9).fill(BUSY), WHOLE], 600_000);
  expect(then).toBe('all of it');
  expect(said.length).toBe(5);
  expect(said[0]).toBe('s3://laws: the server answered 503; asked again in 9.6 s');
  expect(said.at(-1)).toBe('s3://laws: the server answered 503; asked again in 30 s');
});

test('patience ends, and one that never answered is not waited for', async () => {
  const impatient = await answering([WHOLE, BUSY], 60_000);
  expect(impatient.then).toBe('s3://laws/a.jsonl: the server answered 503.');
  expect(impatient.said.length).toBe(3);
  const unknown = await answering([BUSY], 600_000);
  expect(unknown.first).toBe('s3://laws/first: the server answered 503.');
  expect(unknown).toMatchObject({ said: [], count: 10 });
});

test('what follows a break is a range of the object, or the reading ends', async () => {
  const { then } = await answering([WHOLE, CUT, WHOLE], 0);
  expect(then).toContain('answered 200, the whole object');
  const rest = answerOf('206 Partial Content', ' of it');
  expect((await answering([WHOLE, CUT, rest], 0)).then).toBe('all of it');
});
