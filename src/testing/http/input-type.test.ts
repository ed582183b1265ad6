import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * Passage or query by the header, for clients that send no field for it, with a model that has
 * prefixes. Planted and caught: a route that gives a default of its own before the header is read
 * (OpenAI's, Ollama's, SIE's), and the header read before the route's own field.
 */

setDefaultTimeout(60_000);

const TEXT = 'исковая давность';

let server: RunningServer;

beforeAll(async () => {
  server = await startServer({ BACKEND: 'embedded', TOKENIZER_WORKERS: '1' });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(() => server?.close());

async function ask(path: string, body: object, inputType?: string) {
  const headers: Record<string, string> = {};
  if (inputType !== undefined) headers['x-input-type'] = inputType;
  const reply = await fetch(server.url + path, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  });
  return { status: reply.status, body: await reply.json() };
}

/** The row of a reply, in whichever shape, as float32. */
function rowOf(body: {
  embedding?: number[];
  embeddings?: number[][];
  data?: { embedding: number[] }[];
  vector?: number[];
  items?: { dense: { values: number[] } }[];
  [index: number]: number[];
}): Float32Array {
  const { embedding, embeddings, data, vector, items } = body;
  const row = embedding ?? embeddings?.[0] ?? data?.[0].embedding ?? vector ?? body[0];
  return Float32Array.from(items?.[0].dense.values ?? row);
}

/** A call of each API, and the field by which it says that the text is a query. */
const DOORS = [
  ['/encode', { query: TEXT }, { input_type: 'query' }],
  ['/v1/embeddings', { input: TEXT }, { input_type: 'query' }],
  ['/embed', { inputs: TEXT }, { prompt_name: 'query' }],
  ['/api/embed', { model: 'm', input: TEXT }, { input_type: 'query' }],
  ['/v1/embed', { texts: [TEXT] }, { input_type: 'search_query' }],
  ['/vectors', { text: TEXT }, { config: { task_type: 'query' } }],
  ['/v1/encode/m', { items: [{ text: TEXT }] }, { params: { options: { is_query: true } } }],
] as const;

test.each(DOORS)('%s takes the header, and its own field before it', async (path, body, field) => {
  const query = rowOf((await ask('/encode', { query: TEXT })).body);
  const passage = rowOf((await ask('/encode', { query: TEXT, input_type: 'passage' })).body);
  expect(passage).not.toEqual(query);
  expect(rowOf((await ask(path, body)).body)).toEqual(query);
  expect(rowOf((await ask(path, body, 'passage')).body)).toEqual(passage);
  expect(rowOf((await ask(path, body, 'search_document')).body)).toEqual(passage);
  expect(rowOf((await ask(path, { ...body, ...field }, 'passage')).body)).toEqual(query);
});

test('a word that is not known is refused by the header’s name', async () => {
  const { status, body } = await ask('/encode', { query: TEXT }, 'nonsense');
  expect([status, body.error.field]).toEqual([422, 'x-input-type']);
});
