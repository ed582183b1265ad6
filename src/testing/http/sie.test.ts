import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { quantizeRow } from '../../vectors/quantize.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/** SIE's route in JSON, against our own. Its SDK, which speaks msgpack, is in `clients.py`. */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'рецепт борща'];
const ITEMS = TEXTS.map((text, at) => ({ text, id: `id-${at}` }));

let server: RunningServer;
let strict: RunningServer;

beforeAll(async () => {
  [server, strict] = await Promise.all([
    startHeadsServer(),
    startHeadsServer({ STRICT_MODEL: 'on' }),
  ]);
});

afterAll(async () => {
  await server?.close();
  await strict?.close();
});

async function ask(path: string, body: unknown, to = server) {
  const reply = await fetch(to.url + path, { method: 'POST', body: JSON.stringify(body) });
  return { status: reply.status, body: await reply.json(), headers: reply.headers };
}

const floats = (values: readonly number[]): Float32Array => Float32Array.from(values);

test('items have the heads that were asked for, and their ids', async () => {
  const outputs = ['dense', 'sparse', 'multi_vector'];
  const right = (await ask('/encode', { query: TEXTS, outputs })).body;
  const params = { output_types: ['dense', 'sparse', 'multivector'] };
  for (const path of ['/v1/encode/small', '/v1/encode/BAAI/bge-m3', '/v1/encode/BAAI%2Fbge-m3']) {
    const { items, model } = (await ask(path, { items: ITEMS, params })).body;
    expect(model).toBe('small');
    for (const [at, { id, dense, sparse, multivector }] of items.entries()) {
      expect([id, floats(dense.values)]).toEqual([`id-${at}`, floats(right.embeddings[at])]);
      expect(sparse.indices).toEqual(right.sparse[at].indices);
      expect(floats(sparse.values)).toEqual(floats(right.sparse[at].values));
      expect(multivector.values.map(floats)).toEqual(right.multi_vector[at].map(floats));
    }
  }
});

test('dense alone unless told, without ids that were not given', async () => {
  const { body } = await ask('/v1/encode/small', { items: [{ text: 'a' }] });
  expect(Object.keys(body.items[0])).toEqual(['dense']);
});

test('integer rows are ours; binary is SIE’s, which has no offset', async () => {
  const { embeddings } = (await ask('/encode', { query: TEXTS })).body;
  for (const output_dtype of ['int8', 'uint8', 'ubinary', 'binary'] as const) {
    const { items } = (await ask('/v1/encode/small', { items: ITEMS, params: { output_dtype } }))
      .body;
    const form = output_dtype === 'binary' ? 'ubinary' : output_dtype;
    for (const [at, { dense }] of items.entries()) {
      expect(dense.values).toEqual([...quantizeRow(Float32Array.from(embeddings[at]), form)]);
    }
  }
});

describe('refused by name, in words and codes that its SDK reads', () => {
  test.each([
    ['items', {}],
    ['items', { items: [] }],
    ['items[1]', { items: [{ text: 'a' }, { text: 5 }] }],
    ['items[0].images', { items: [{ images: ['a'] }] }],
    ['items[0].id', { items: [{ text: 'a', id: 1 }] }],
    ['params.output_types[0]', { items: ITEMS, params: { output_types: ['colbert'] } }],
    ['params.output_dtype', { items: ITEMS, params: { output_dtype: 'int4' } }],
    ['params.instruction', { items: ITEMS, params: { instruction: 'Find:' } }],
    ['params.options.muvera', { items: ITEMS, params: { options: { muvera: true } } }],
    ['params.options.normalize', { items: ITEMS, params: { options: { normalize: false } } }],
  ])('%s', async (field, body) => {
    const reply = await ask('/v1/encode/small', body);
    expect([reply.status, reply.body.error.field]).toEqual([400, field]);
    expect(reply.body.error.message).toContain(field);
  });

  test('a foreign model where names count', async () => {
    expect((await ask('/v1/encode/small', { items: ITEMS }, strict)).status).toBe(200);
    const { status, body, headers } = await ask('/v1/encode/BAAI/other', { items: ITEMS }, strict);
    expect([status, body.error.code]).toEqual([404, 'EMB_MODEL_UNKNOWN']);
    expect(headers.get('x-sie-error-code')).toBe('EMB_MODEL_UNKNOWN');
  });
});

test('its list of models says the heads', async () => {
  const { models } = await (await fetch(`${server.url}/v1/models`)).json();
  expect(models[0]).toMatchObject({ name: 'small', outputs: ['dense', 'sparse', 'multivector'] });
});
