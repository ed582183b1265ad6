import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { unpack } from 'msgpackr';
import { APIEncoder } from '../../client/api-encoder.ts';
import { QUANTIZED, quantizeRow } from '../../vectors/quantize.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * Integer and binary rows in msgpack and raw replies, and by our own client, are those of their
 * definition. Planted and caught: the shape of packed rows as their dimensions, the float16 block's
 * copy for bytes, `binary` sent as `ubinary`, multi-vectors in the type of the rows.
 */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'срок исковой давности', 'рецепт борща'];

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer();
});

afterAll(() => server?.close());

async function ask(path: string, body: unknown, accept: string): Promise<Response> {
  const headers = { accept };
  const reply = await fetch(server.url + path, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  expect(reply.status).toBe(200);
  return reply;
}

async function floats(): Promise<Float32Array[]> {
  const { embeddings } = await (await ask('/encode', { query: TEXTS }, 'application/json')).json();
  return embeddings.map((row: number[]) => Float32Array.from(row));
}

describe.each(QUANTIZED)('%s', (form) => {
  const numpyType = form === 'int8' || form === 'binary' ? '|i1' : '|u1';

  test('in msgpack and in raw bytes, on /encode and on OpenAI’s route', async () => {
    const right = (await floats()).map((row) => quantizeRow(row, form));
    const shape = [TEXTS.length, right[0].length];
    const bytes = Buffer.concat(right.map(({ buffer }) => new Uint8Array(buffer)));
    const asked = [
      ['/encode', { query: TEXTS }, `application/msgpack; dtype=${form}`],
      ['/v1/embeddings', { input: TEXTS, output_dtype: form }, 'application/msgpack'],
      ['/v2/embed', { texts: TEXTS }, `application/msgpack; dtype=${form}`],
    ] as const;
    for (const [path, body, accept] of asked) {
      const { embeddings } = unpack(await (await ask(path, body, accept)).bytes());
      expect(embeddings).toMatchObject({ dtype: numpyType, shape });
      expect(Buffer.from(embeddings.data)).toEqual(bytes);
    }
    const raw = await ask('/encode', { query: TEXTS }, `application/octet-stream; dtype=${form}`);
    expect(raw.headers.get('x-embedding-shape')).toBe(shape.join(','));
    expect(raw.headers.get('x-embedding-dtype')).toBe(form);
    expect(Buffer.from(await raw.bytes())).toEqual(bytes);
  });

  test('multi-vectors and sparse weights beside them stay float32', async () => {
    const body = { query: TEXTS[0], outputs: ['dense', 'sparse', 'multi_vector'] };
    const reply = await ask('/encode', body, `application/msgpack; dtype=${form}`);
    const { embedding, sparse, multi_vector } = unpack(await reply.bytes());
    expect([embedding.dtype, sparse.values.dtype, multi_vector.dtype]).toEqual([
      numpyType,
      '<f4',
      '<f4',
    ]);
  });

  test('by APIEncoder, one text and several over more than one request', async () => {
    const encoder = new APIEncoder(server.url, { requestTextsMax: 2 });
    const right = (await floats()).map((row) => quantizeRow(row, form));
    const rows = await encoder.encodeQuantized(TEXTS, form);
    expect(rows as (Int8Array | Uint8Array)[]).toEqual(right);
    expect((await encoder.encodeQuantized(TEXTS[0], form)) as Uint8Array).toEqual(
      right[0] as Uint8Array,
    );
    await encoder.close();
  });
});

test('APIEncoder refuses a type that there is not, and sends nothing', async () => {
  const encoder = new APIEncoder('http://localhost:1');
  const refused = encoder.encodeQuantized('тест', 'int4' as 'int8');
  await expect(refused).rejects.toMatchObject({ code: 'CLIENT_ARGUMENT_INVALID', field: 'type' });
});
