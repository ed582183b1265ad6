import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { connect } from 'node:net';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { loadReferenceIds } from '../reference-ids.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { until } from '../until.ts';
import { BAD_REQUESTS } from './bad-requests.ts';
import { LIMITS, SECRET } from './bad-row.ts';

/**
 * Whatever a caller sends wrong is told in one JSON shape, by a stable code and with the field, the
 * limit and the value; the process lives, and the request beside it never notices.
 */

setDefaultTimeout(60_000);

const DIMENSION = 1024;
let fake: FakeTriton;
let server: RunningServer;
let goodRow: number[];

beforeAll(async () => {
  const shape = { datatype: 'INT64', dimension: DIMENSION, batchTextsMax: 32 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  server = await startServer({
    BACKEND: 'triton',
    TRITON_URL: fake.url,
    TOKENIZER_WORKERS: '1',
    REQUEST_TEXTS_MAX: String(LIMITS.texts),
    BODY_BYTES_MAX: String(LIMITS.bodyBytes),
    TEXT_CHARACTERS_MAX: String(LIMITS.characters),
    EMPTY_TEXTS: 'refuse',
  });
  await until('ready', async () => (await fetch(`${server.url}/ready`)).ok);
  const ids = await loadReferenceIds('bge-m3')('тест');
  goodRow = [...deterministicEmbedding(ids, DIMENSION)];
});

afterAll(async () => {
  await server?.close();
  await fake?.stop();
});

async function good(): Promise<number[]> {
  const reply = await fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: 'тест' }),
  });
  const { embedding } = (await reply.json()) as { embedding: number[] };
  return [...Float32Array.from(embedding)];
}

/** Checks what every error has in common, and returns it. */
async function errorIn(reply: Response): Promise<Record<string, unknown>> {
  expect(reply.headers.get('content-type')).toBe('application/json');
  const body = (await reply.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body)).toEqual(['error']);
  const { code, message, retryable, request_id, field, limit, value, ...rest } = body.error;
  expect(rest).toEqual({});
  for (const told of [code, message, request_id, field]) expect(told).toBeString();
  expect(retryable).toBeBoolean();
  for (const told of [limit, value]) expect(typeof told).toMatch(/^(string|number|undefined)$/);
  expect(reply.headers.get('x-request-id')).toBe(request_id as string);
  return body.error;
}

describe('bad input', () => {
  test.each(BAD_REQUESTS.map((request) => [request.name, request] as const))(
    '%s',
    async (_name, { code, status, field, says, path, init }) => {
      const url = server.url + (path ?? '/encode');
      const [reply, row] = await Promise.all([fetch(url, init), good()]);
      expect(reply.status).toBe(status);
      const error = await errorIn(reply);
      expect(error).toMatchObject({ code, field, retryable: false });
      for (const words of says) expect(error.message).toContain(words);
      expect(JSON.stringify(error)).not.toContain(SECRET);
      expect(row).toEqual(goodRow);
    },
  );

  test('a limit that was broken is told with its value, as numbers too', async () => {
    const body = JSON.stringify({ query: Array(LIMITS.texts + 1).fill('x') });
    const reply = await fetch(`${server.url}/encode`, { method: 'POST', body });
    expect(await errorIn(reply)).toMatchObject({ limit: LIMITS.texts, value: LIMITS.texts + 1 });
  });

  test('a wrong method is told the right ones', async () => {
    const reply = await fetch(`${server.url}/encode`);
    expect(reply.headers.get('allow')).toBe('POST');
  });

  test('an error is JSON whatever the caller accepts', async () => {
    const headers = { accept: 'application/msgpack', 'content-type': 'application/msgpack' };
    const reply = await fetch(`${server.url}/encode`, { method: 'POST', headers, body: '' });
    expect(reply.status).toBe(400);
    await errorIn(reply);
  });

  test('a caller may name its request, if the name is harmless', async () => {
    const ask = (id: string) =>
      fetch(`${server.url}/nowhere`, { headers: { 'x-request-id': id } }).then(errorIn);
    expect((await ask('abc-123')).request_id).toBe('abc-123');
    expect((await ask('a b')).request_id).not.toBe('a b');
    expect((await ask('x'.repeat(500))).request_id).not.toBe('x'.repeat(500));
  });

  test('a body of no declared length is counted as it comes', async () => {
    let sentBytes = 0;
    const body = new ReadableStream({
      pull(controller) {
        sentBytes += 10_000;
        controller.enqueue(new Uint8Array(10_000).fill(0x20));
        if (sentBytes >= LIMITS.bodyBytes * 2) controller.close();
      },
    });
    const [reply, row] = await Promise.all([
      fetch(`${server.url}/encode`, { method: 'POST', body }),
      good(),
    ]);
    expect(reply.status).toBe(413);
    expect(await errorIn(reply)).toMatchObject({ code: 'EMB_BODY_TOO_LARGE' });
    expect(row).toEqual(goodRow);
  });

  test('a caller that goes away in the middle of its body harms nobody', async () => {
    const { port, hostname } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    socket.write('POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"query":');
    expect(await good()).toEqual(goodRow);
    socket.destroy();
    await closed;
    expect(await good()).toEqual(goodRow);
  });
});

test('afterwards nothing is left waiting, and nothing was a fault of ours', () => {
  expect(server.parts.admission.admittedTextCount).toBe(0);
  expect(server.parts.batcher.foreground.waitingTextCount).toBe(0);
  expect(server.logLines.filter((line) => line.includes('EMB_INTERNAL'))).toEqual([]);
  expect(fake.problems).toEqual([]);
});
