import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * TRUNCATE=off on every route that takes texts: what does not ask for a cut is refused when it is
 * too long, whatever the default of the API that the route is of.
 *
 * It failed on Cohere's and Ollama's routes, whose own defaults cut; and a limit of tokens was no
 * asking for a cut where texts are scored.
 */

setDefaultTimeout(60_000);

const LONG = 'слово '.repeat(600);

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer({ TRUNCATE: 'off' });
});

afterAll(() => server?.close());

async function errorOf(path: string, body: unknown): Promise<string> {
  const reply = await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body) });
  await reply.bytes();
  return reply.headers.get('x-error-code') ?? String(reply.status);
}

test.each([
  ['/encode', { query: LONG }],
  ['/v1/embeddings', { input: LONG }],
  ['/', { inputs: LONG }],
  ['/embed', { inputs: LONG }],
  ['/embed_all', { inputs: LONG }],
  ['/embed_sparse', { inputs: LONG }],
  ['/similarity', { inputs: { source_sentence: LONG, sentences: ['a'] } }],
  ['/score', { query: 'a', texts: [LONG] }],
  ['/rerank', { query: 'a', texts: [LONG] }],
  ['/v2/rerank', { query: 'a', documents: [LONG] }],
  ['/v1/embed', { texts: [LONG] }],
  ['/v2/embed', { texts: [LONG] }],
  ['/api/embed', { input: LONG }],
  ['/api/embeddings', { prompt: LONG }],
  ['/vectors', { text: LONG }],
  ['/v1/encode/small', { items: [{ text: LONG }] }],
])('%s refuses a long text', async (path, body) => {
  expect(await errorOf(path, body)).toBe('EMB_TEXT_TOO_LONG');
});

test.each([
  ['/encode', { query: LONG, truncate: true }],
  ['/v1/embeddings', { input: LONG, truncate_prompt_tokens: 100 }],
  ['/embed', { inputs: LONG, truncate: true }],
  ['/v2/embed', { texts: [LONG], truncate: 'END' }],
  ['/v2/embed', { texts: [LONG], truncate: 'START' }],
  ['/v2/embed', { texts: [LONG], max_tokens: 100 }],
  ['/api/embed', { input: LONG, truncate: true }],
  ['/api/embed', { input: LONG, options: { num_ctx: 100 } }],
  ['/api/embeddings', { prompt: LONG, options: { num_ctx: 100 } }],
  ['/score', { query: 'a', texts: [LONG], max_text_tokens: 100 }],
  ['/score', { query: LONG, texts: ['a'], max_query_tokens: 100 }],
  ['/rerank', { query: 'a', texts: [LONG], max_text_tokens: 100 }],
  ['/rerank', { query: 'a', texts: [LONG], truncate: true }],
  ['/v2/rerank', { query: 'a', documents: [LONG], max_tokens_per_doc: 100 }],
])('%s cuts it when it is asked to: %#', async (path, body) => {
  expect(await errorOf(path, body)).toBe('200');
});

test.each([
  ['/score', { query: 'a', texts: [LONG], max_query_tokens: 100 }],
  ['/score', { query: LONG, texts: ['a'], max_text_tokens: 100 }],
  ['/score', { query: 'a', texts: [LONG], max_text_tokens: 100, truncate: false }],
  ['/rerank', { query: 'a', texts: [LONG], max_text_tokens: 100, truncate: false }],
  ['/v2/rerank', { query: LONG, documents: ['a'], max_tokens_per_doc: 100 }],
  ['/v2/rerank', { query: 'a', documents: [LONG], max_tokens_per_doc: 100, truncation: false }],
])('%s refuses what is not asked to be cut: %#', async (path, body) => {
  expect(await errorOf(path, body)).toBe('EMB_TEXT_TOO_LONG');
});
