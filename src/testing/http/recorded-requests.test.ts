import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * Requests as Open WebUI (0.12.4), Dify's plugin for OpenAI-compatible servers (2026-11), Weaviate,
 * Milvus and Elasticsearch (2026) write them, by their sources: programs that are too large to run
 * here. What each reads is in the reply.
 * The model has prefixes, so that a passage differs from a query.
 */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'рецепт борща'];

let server: RunningServer;

beforeAll(async () => {
  server = await startServer({ BACKEND: 'embedded', TOKENIZER_WORKERS: '1' });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(() => server?.close());

async function ask(path: string, body: object, headers: Record<string, string> = {}) {
  const reply = await fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  expect(reply.status).toBe(200);
  return reply.json();
}

const rows = async (input_type: string): Promise<number[][]> =>
  (await ask('/encode', { query: TEXTS, input_type })).embeddings;

const rowsIn = (reply: { data: { embedding: number[] }[] }): number[][] =>
  reply.data.map(({ embedding }) => embedding);

/** With RAG_EMBEDDING_PREFIX_FIELD_NAME=input_type its prefixes are the values of that field. */
const WEBUI = {
  authorization: 'Bearer key',
  'x-openwebui-user-name': 'A',
  'x-openwebui-user-id': '1',
};

test.each(['query', 'passage'])('Open WebUI, %s by the field of its prefix', async (input_type) => {
  const openai = await ask('/v1/embeddings', { input: TEXTS, model: 'm', input_type }, WEBUI);
  expect(rowsIn(openai)).toEqual(await rows(input_type));
  const ollama = { input: TEXTS, model: 'bge-m3:latest', truncate: true, input_type };
  expect((await ask('/api/embed', ollama, WEBUI)).embeddings).toEqual(await rows(input_type));
});

test('Open WebUI as for Azure sends no model; without a prefix texts are queries', async () => {
  const path = '/openai/deployments/m/embeddings?api-version=2024-10-21';
  expect(rowsIn(await ask(path, { input: TEXTS }, { 'api-key': 'key' }))).toEqual(
    await rows('query'),
  );
});

test('Open WebUI’s reranker finds a score for each index', async () => {
  const body = { model: 'm', query: TEXTS[0], documents: TEXTS, top_n: TEXTS.length };
  const { results } = await ask('/v1/rerank', body, WEBUI);
  const scores = results.toSorted(
    (a: { index: number }, b: { index: number }) => a.index - b.index,
  );
  expect(scores.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
  expect(scores[0].relevance_score).toBeGreaterThan(scores[1].relevance_score);
});

test('Dify checks with a ping, then sends its texts in batches', async () => {
  expect(await ask('/v1/embeddings', { input: 'ping', model: 'm' })).toHaveProperty('model');
  const reply = await ask(
    '/v1/embeddings',
    { model: 'm', input: TEXTS, encoding_format: 'float' },
    { authorization: 'Bearer ' },
  );
  expect(rowsIn(reply)).toEqual(await rows('query'));
  expect(reply.usage.prompt_tokens).toBeGreaterThan(0);
});

test('Weaviate sends no Content-Type, and fields of its reply as they are when empty', async () => {
  const post = async (path: string, body: object) => {
    const sent = { method: 'POST', body: new Blob([JSON.stringify(body)]) };
    return (await fetch(server.url + path, sent)).json();
  };
  const config = { pooling_strategy: 'masked_mean', task_type: 'passage' };
  const one = { text: TEXTS[0], dims: 0, vector: null, error: '', config };
  expect((await post('/vectors', one)).vector).toEqual((await rows('passage'))[0]);
  const ranked = await post('/rerank', { query: TEXTS[0], documents: TEXTS, property: '' });
  expect(ranked.scores[0].document).toBe(TEXTS[0]);
});

test('Milvus as a client of TEI and of vLLM', async () => {
  const tei = { inputs: TEXTS, truncate: true, truncation_direction: 'Right' };
  expect(await ask('/embed', tei)).toEqual(await rows('query'));
  const vllm = { input: TEXTS, encoding_format: 'float' };
  expect(rowsIn(await ask('/v1/embeddings', vllm))).toEqual(await rows('query'));
  const asked = { query: TEXTS[0], documents: TEXTS, truncate_prompt_tokens: -1 };
  expect((await ask('/rerank', asked)).results[0].index).toBe(0);
});

test('Elasticsearch, its services hugging_face and openai', async () => {
  expect(await ask('/embed', { inputs: TEXTS })).toEqual(await rows('query'));
  const ranked = await ask('/rerank', {
    texts: TEXTS,
    query: TEXTS[0],
    return_text: true,
    top_n: 1,
  });
  // It refuses a reply with any other field.
  expect(Object.keys(ranked[0]).sort()).toEqual(['index', 'score', 'text']);
  const openai = { input: TEXTS, model: 'bge-m3', user: 'a', input_type: 'passage' };
  expect(rowsIn(await ask('/v1/embeddings', openai))).toEqual(await rows('passage'));
});
