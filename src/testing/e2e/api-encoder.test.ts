import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { APIEncoder } from '../../client/api-encoder.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/** The client against the whole server with the default model. */

setDefaultTimeout(60_000);

const DIMENSION = 384;
/** A queue that two requests of the client fill. */
const QUEUE = { QUEUE_TEXTS_MAX: '8', REQUEST_TEXTS_MAX: '8', QUEUE_HOLD_MS: '0' };
const TEXTS = [
  'расторжение договора аренды',
  'прекращение арендных отношений',
  'рецепт борща',
  'исковая давность',
  'termination of a lease',
];

let server: RunningServer;

beforeAll(async () => {
  server = await startServer({ BACKEND: 'embedded', ...QUEUE });
  await until('the backend is ready', () => server.parts.backend.state().isReady);
});

afterAll(() => server?.close());

/** The rows as the server gives them to anybody: one text at a time, as JSON. */
async function rowsByHand(texts: readonly string[]): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (const query of texts) {
    const reply = await fetch(`${server.url}/encode`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query }),
    });
    rows.push(Float32Array.from(((await reply.json()) as { embedding: number[] }).embedding));
  }
  return rows;
}

function idle(): Promise<void> {
  const { admission, batcher } = server.parts;
  return until(
    'nothing runs on the server',
    () => admission.admittedTextCount === 0 && batcher.batchesInFlight === 0,
  );
}

describe('APIEncoder and the server', () => {
  test('health and the dimension', async () => {
    const encoder = new APIEncoder(server.url);
    expect(await encoder.health()).toEqual({ status: 'ok' });
    expect(await encoder.get_vector_dim()).toBe(DIMENSION);
    await encoder.close();
  });

  test('rows are those of the JSON route to the last bit, however the texts are split', async () => {
    const encoder = new APIEncoder(server.url, { requestTextsMax: 2 });
    const expected = await rowsByHand(TEXTS);
    expect(await encoder.encode(TEXTS[0])).toEqual(expected[0]);
    expect(await encoder.encode(TEXTS)).toEqual(expected);
    const streamed: Float32Array[] = [];
    for await (const row of encoder.encodeStream(TEXTS)) streamed.push(row);
    expect(streamed).toEqual(expected);
    await encoder.close();
  });

  test('a full queue delays the call and does not fail it', async () => {
    const encoder = new APIEncoder(server.url, { requestTextsMax: 4, concurrency: 5 });
    const texts = Array.from({ length: 20 }, (_, index) => `статья ${index}`);
    const before = server.logLines.length;
    const rows = await encoder.encode(texts);
    expect(rows.length).toBe(20);
    expect(rows[19]).toEqual((await rowsByHand([texts[19]]))[0]);
    const refusals = server.logLines
      .slice(before)
      .filter((line) => line.includes('EMB_QUEUE_FULL'));
    expect(refusals.length).toBeGreaterThan(0);
    await encoder.close();
  });

  test('tells the tokens of a text and that it was cut, or refuses it by its place', async () => {
    const encoder = new APIEncoder(server.url, { requestTextsMax: 1, inputType: 'passage' });
    const texts = ['а', 'слово '.repeat(600)];
    const outputs = ['dense'] as const;
    const [short, long] = await encoder.encodeHeads(texts, { outputs });
    expect(short).toMatchObject({ model: 'multilingual-e5-small', truncated: false });
    expect(long.truncated).toBe(true);
    expect(long.tokenCount).toBeGreaterThan(512);
    await expect(encoder.encode(texts, { truncate: false })).rejects.toMatchObject({
      code: 'EMB_TEXT_TOO_LONG',
      status: 422,
      field: 'texts[1]',
      limit: 512,
    });
    await encoder.close();
    await idle();
  });

  test('a head that the model lacks is refused by the server', async () => {
    const encoder = new APIEncoder(server.url);
    const call = encoder.encodeHeads('а', { outputs: ['sparse'] });
    await expect(call).rejects.toMatchObject({ code: 'EMB_HEAD_UNAVAILABLE' });
    await encoder.close();
  });

  test('aborted or closed, it leaves nothing running on the server', async () => {
    const encoder = new APIEncoder(server.url, { requestTextsMax: 2, concurrency: 3 });
    const texts = Array.from({ length: 40 }, (_, index) => `длинный текст ${index} `.repeat(20));
    const isBusy = (): boolean => server.parts.admission.admittedTextCount > 0;
    const caller = new AbortController();
    const aborted = encoder.encode(texts, { signal: caller.signal }).catch((error) => error.name);
    await until('the server is at work', isBusy);
    caller.abort();
    expect(await aborted).toBe('AbortError');
    await idle();
    const closed = encoder.encode(texts).catch((error) => error.code);
    await until('the server is at work', isBusy);
    await encoder.close();
    expect(await closed).toBe('CLIENT_CLOSED');
    await idle();
  });
});
