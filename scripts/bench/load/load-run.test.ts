import { afterEach, expect, test } from 'bun:test';
import type { Arrival, LoadPlan, LoadResult } from './load-plan.ts';
import { runLoad } from './load-run.ts';

const RIGHT = JSON.stringify({ embedding: [0.5, -0.25, 0.125] });
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

let stop: () => void = () => undefined;
afterEach(() => stop());

/** A server of the test's own; `answer` is called with the count of the request, from 1. */
function serve(answer: (count: number) => Response | Promise<Response>): number {
  let count = 0;
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    async fetch(request) {
      await request.text();
      return answer(++count);
    },
  });
  stop = () => void server.stop(true);
  return server.port ?? 0;
}

function load(port: number, options: Partial<LoadPlan> = {}): Promise<LoadResult> {
  const body = '{"query":"a"}';
  const head = `POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n`;
  const arrival: Arrival = { kind: 'closed', connectionCount: 2 };
  const plan: LoadPlan = {
    hostname: '127.0.0.1',
    port,
    requests: [
      {
        bytes: encode(head + body),
        replyBody: encode(RIGHT),
        kind: 'short',
        textCount: 1,
        tokenCount: 3,
      },
    ],
    replyKind: 'json',
    tolerance: 0,
    arrival,
    warmUpMs: 0,
    measureMs: 5000,
    requestCountMax: 50,
    connectionCountMax: 16,
    timeoutMs: 5000,
    seed: 1,
    watchedPids: {},
    threadsOfPid: undefined,
    ...options,
  };
  return runLoad(plan, () => undefined);
}

test('right replies are counted, and nothing else is said', async () => {
  const result = await load(serve(() => new Response(RIGHT)));
  expect(result).toMatchObject({
    requestCount: 50,
    textCount: 50,
    tokenCount: 150,
    wrong: { count: 0 },
    failed: { count: 0 },
    sendLag: null,
  });
  expect(result.latencies.short.count).toBe(50);
});

test('one wrong value in one reply is found', async () => {
  const wrong = JSON.stringify({ embedding: [0.5, -0.25, 0.126] });
  const result = await load(serve((count) => new Response(count === 7 ? wrong : RIGHT)));
  expect(result.wrong.count).toBe(1);
  expect(result.wrong.samples).toEqual(['short: row 0, value 2 is 0.12600000202655792, not 0.125']);
});

test.each([
  ['a value too few', JSON.stringify({ embedding: [0.5, -0.25] })],
  ['NaN', '{"embedding":[null,-0.25,0.125]}'],
  ['no JSON', RIGHT.replace('}', ']')],
  ['nothing', ''],
])('%s is wrong', async (_name, body) => {
  const result = await load(serve(() => new Response(body)));
  expect(result.wrong.count).toBeGreaterThanOrEqual(50);
});

test('the same row in other bytes is right', async () => {
  const result = await load(serve(() => new Response(RIGHT.replaceAll(',', ', '))));
  expect(result).toMatchObject({ requestCount: 50, wrong: { count: 0 }, failed: { count: 0 } });
});

test('another status is a failure, told with what the server said', async () => {
  const answer = (count: number): Response =>
    count === 3 ? new Response('queue full', { status: 429 }) : new Response(RIGHT);
  const { failed, requestCount } = await load(serve(answer));
  expect({ requestCount, failed }).toEqual({
    requestCount: 50,
    failed: { count: 1, samples: ['short: status 429 queue full'] },
  });
});

test('stages are read from Server-Timing', async () => {
  const headers = { 'Server-Timing': 'read;dur=0.5, infer;dur=2.25' };
  const { stages } = await load(serve(() => new Response(RIGHT, { headers })));
  expect(stages.infer).toMatchObject({ count: 50, p50: 2.25 });
  expect(stages.read).toMatchObject({ count: 50, max: 0.5 });
});

test('an open load does not wait for replies', async () => {
  // Nobody is answered before five have asked: a load that waits would wait for ever.
  const waiting: (() => void)[] = [];
  const answer = (count: number): Promise<Response> =>
    new Promise((resolve) => {
      waiting.push(() => resolve(new Response(RIGHT)));
      if (count >= 5) for (const release of waiting.splice(0)) release();
    });
  const result = await load(serve(answer), {
    arrival: { kind: 'fixed', requestsPerSecond: 100 },
    requestCountMax: 20,
  });
  expect(result).toMatchObject({ requestCount: 20, failed: { count: 0 } });
  expect(result.sendLag?.count).toBe(20);
});

test('no more are counted than asked for, however many are under way', async () => {
  // All sixteen connections are answered at once: the count ends in the middle of them.
  const waiting: (() => void)[] = [];
  const answer = (count: number): Promise<Response> =>
    new Promise((resolve) => {
      waiting.push(() => resolve(new Response(RIGHT)));
      if (count >= 16) for (const release of waiting.splice(0)) release();
    });
  const result = await load(serve(answer), {
    arrival: { kind: 'fixed', requestsPerSecond: 1000 },
    requestCountMax: 10,
  });
  expect(result).toMatchObject({ requestCount: 10, failed: { count: 0 } });
});

test('a reply is put together from any pieces', async () => {
  const reply = encode(
    `HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: ${RIGHT.length}\r\n\r\n${RIGHT}`,
  );
  const server = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      open: (socket) => void socket.setNoDelay(true),
      async data(socket) {
        for (const byte of reply) {
          socket.write(Uint8Array.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      },
    },
  });
  stop = () => server.stop(true);
  const result = await load(server.port, { requestCountMax: 4 });
  expect(result).toMatchObject({ requestCount: 4, wrong: { count: 0 }, failed: { count: 0 } });
});

test('a connection that the server closes is a failure, and is replaced', async () => {
  let count = 0;
  const server = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      data(socket) {
        if (++count === 3) socket.end();
        else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${RIGHT.length}\r\n\r\n${RIGHT}`);
      },
    },
  });
  stop = () => server.stop(true);
  const { failed, requestCount } = await load(server.port);
  expect({ requestCount, failed }).toEqual({
    requestCount: 50,
    failed: { count: 1, samples: ['the server closed the connection'] },
  });
});
