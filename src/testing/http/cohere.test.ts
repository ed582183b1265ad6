import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { quantizeRow } from '../../vectors/quantize.ts';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/** Cohere's embed, and rerank as Cohere, Jina, vLLM and Voyage have it, against our own routes. */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'срок исковой давности', 'рецепт борща'];

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer();
});

afterAll(() => server?.close());

async function ask(path: string, body: unknown) {
  const reply = await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body) });
  return { status: reply.status, body: await reply.json() };
}

const rows = async (): Promise<number[][]> =>
  (await ask('/encode', { query: TEXTS })).body.embeddings;

describe('embed', () => {
  test('v1 answers a list of rows unless types are asked for', async () => {
    const { body } = await ask('/v1/embed', { texts: TEXTS, input_type: 'search_query' });
    expect(body.response_type).toBe('embeddings_floats');
    expect(body.embeddings).toEqual(await rows());
    expect(body.texts).toEqual(TEXTS);
    expect(body.meta.billed_units.input_tokens).toBeGreaterThan(TEXTS.length);
  });

  test('v2 answers rows by form, each by its definition', async () => {
    const embedding_types = ['float', 'base64', 'int8', 'uint8', 'binary', 'ubinary'];
    const { body } = await ask('/v2/embed', { texts: TEXTS, embedding_types });
    const { float, base64, ...quantized } = body.embeddings;
    expect(body.response_type).toBe('embeddings_by_type');
    expect(float).toEqual(await rows());
    for (const [index, row] of float.entries()) {
      const bytes = Buffer.from(Float32Array.from(row).buffer).toString('base64');
      expect(base64[index]).toBe(bytes);
      for (const form of ['int8', 'uint8', 'binary', 'ubinary'] as const) {
        expect(quantized[form][index]).toEqual([...quantizeRow(Float32Array.from(row), form)]);
      }
    }
  });

  test('v2 without types answers float', async () => {
    const { body } = await ask('/v2/embed', { texts: TEXTS });
    expect(Object.keys(body.embeddings)).toEqual(['float']);
  });

  test('truncate chooses the side, and NONE refuses', async () => {
    const [start, end] = ['начало '.repeat(600), ' конец'.repeat(600)];
    const row = async (text: string, truncate?: string) =>
      (await ask('/v2/embed', { texts: [text], truncate })).body.embeddings?.float[0];
    expect(await row(start + end, 'START')).toEqual(await row(end, 'START'));
    expect(await row(start + end, 'LEFT')).toEqual(await row(start + end, 'START'));
    expect(await row(start + end)).toEqual(await row(start));
    expect(await row(start + end, 'RIGHT')).toEqual(await row(start));
    const { status, body } = await ask('/v2/embed', { texts: [start + end], truncate: 'NONE' });
    expect([status, body.code]).toEqual([400, 'EMB_TEXT_TOO_LONG']);
    expect(body.message).toContain('texts[0]');
  });

  test.each([
    ['another form', { embedding_types: ['int4'] }, 'embedding_types[0]'],
    ['another side', { input_type: 'nonsense' }, 'input_type'],
    ['a dimension that the model was not trained for', { output_dimension: 3 }, 'output_dimension'],
    ['a cut to nothing', { max_tokens: 2 }, 'max_tokens'],
    ['images', { images: ['data:image/png;base64,'] }, 'images'],
    ['mixed inputs in place of texts', { texts: undefined, inputs: [{ content: [] }] }, 'inputs'],
  ])('%s: 400, and the field by name', async (_name, fields, name) => {
    const { status, body } = await ask('/v2/embed', { texts: ['a'], ...fields });
    expect([status, body.field]).toEqual([400, name]);
    expect(body.message).toContain(name);
  });
});

describe.each(['/rerank', '/v1/rerank', '/v2/rerank'])('POST %s', (path) => {
  test('answers documents by the score of /score, best first, within [0, 1]', async () => {
    const [query, ...documents] = TEXTS;
    const { scores } = (await ask('/score', { query, texts: documents })).body;
    const { body } = await ask(path, { model: 'm', query, documents, raw_scores: true });
    for (const { index, relevance_score } of body.results) {
      expect(relevance_score).toBeCloseTo(scores.weighted[index], 6);
    }
    const held = (await ask(path, { query, documents })).body.results;
    const order = (list: { index: number }[]) => list.map(({ index }) => index);
    expect(order(held)).toEqual(order(body.results));
    for (const { relevance_score } of held) {
      expect(relevance_score).toBeGreaterThanOrEqual(0);
      expect(relevance_score).toBeLessThanOrEqual(1);
    }
    expect(body.results[0].relevance_score).toBeGreaterThanOrEqual(body.results[1].relevance_score);
  });

  test('takes documents as objects, a bound, and gives them back when asked', async () => {
    const documents = TEXTS.map((text) => ({ text }));
    const asked = { query: { text: TEXTS[0] }, documents, top_n: 2, return_documents: true };
    const { results } = (await ask(path, asked)).body;
    expect(results).toHaveLength(2);
    expect(results[0]).toMatchObject({ index: 0, document: { text: TEXTS[0] } });
    expect(
      (await ask(path, { query: 'a', documents: ['b', 'c'], top_n: 0 })).body.results,
    ).toHaveLength(2);
  });

  test("Voyage's words get Voyage's reply", async () => {
    const { body } = await ask(path, {
      query: 'a',
      documents: ['b', 'c'],
      top_k: 1,
      truncation: true,
    });
    expect(body.data).toEqual(body.results);
    expect(body.data).toHaveLength(1);
    expect(body.usage.total_tokens).toBeGreaterThan(2);
  });

  test('names what is wrong', async () => {
    const { body } = await ask(path, { query: 'a', documents: ['b', { title: 'c' }] });
    const words = body.message ?? body.error;
    expect(words).toContain('documents[1].text');
    expect((await ask(path, { query: 'a', documents: [] })).status).toBeGreaterThanOrEqual(400);
  });
});

test("Weaviate's reranker gets each document with its score", async () => {
  const documents = ['рецепт борща', 'срок исковой давности'];
  const asked = { query: 'исковая давность', documents, property: '' };
  const { body } = await ask('/rerank', asked);
  const { body: plain } = await ask('/rerank', { ...asked, property: undefined });
  expect(plain.scores).toBeUndefined();
  const scores = plain.results.map((result: { index: number; relevance_score: number }) => ({
    document: documents[result.index],
    score: result.relevance_score,
  }));
  expect(body.scores).toEqual(scores);
});

test("TEI's rerank keeps its shape for texts", async () => {
  const { body } = await ask('/rerank', { query: TEXTS[0], texts: TEXTS.slice(1) });
  expect(Array.isArray(body)).toBe(true);
});

test("the hub's sentence_similarity is asked of the base address", async () => {
  const inputs = { source_sentence: TEXTS[0], sentences: TEXTS.slice(1) };
  const { body } = await ask('/', { inputs });
  expect(body).toEqual((await ask('/similarity', { inputs })).body);
  expect((await ask('/', { inputs: {} })).status).toBe(422);
});
