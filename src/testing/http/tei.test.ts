import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { unpack } from 'msgpackr';
import { startHeadsServer } from '../clients/heads-server.ts';
import { scrape } from '../scraped-metrics.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * The API of text-embeddings-inference: shapes, headers and errors, against `/encode` and
 * `/score`.
 */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'срок исковой давности', 'рецепт борща'];

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer();
});

afterAll(() => server?.close());

function send(path: string, body: unknown, headers: Record<string, string> = {}) {
  return fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

const ask = async (path: string, body: unknown) => (await send(path, body)).json();

describe('vectors', () => {
  test('/embed and POST / answer an array of rows, for one text too', async () => {
    const { embeddings } = await ask('/encode', { query: TEXTS });
    expect(await ask('/embed', { inputs: TEXTS })).toEqual(embeddings);
    expect(await ask('/', { inputs: TEXTS, truncate: true, normalize: true })).toEqual(embeddings);
    expect(await ask('/embed', { inputs: TEXTS[0] })).toEqual([embeddings[0]]);
  });

  test('/embed_all is the multi-vector head', async () => {
    const query = { query: TEXTS, outputs: ['multi_vector'] };
    const { multi_vector } = await ask('/encode', query);
    expect(await ask('/embed_all', { inputs: TEXTS })).toEqual(multi_vector);
  });

  test('/embed_sparse has ids and weights in pairs', async () => {
    const { sparse } = await ask('/encode', { query: TEXTS, outputs: ['sparse'] });
    const pairs = sparse.map(({ indices, values }: { indices: number[]; values: number[] }) =>
      indices.map((index, at) => ({ index, value: values[at] })),
    );
    expect(await ask('/embed_sparse', { inputs: TEXTS })).toEqual(pairs);
  });

  test('a binary Accept gets what /encode gives', async () => {
    const accept = { accept: 'application/msgpack' };
    for (const [path, outputs] of [
      ['/embed', 'dense'],
      ['/embed_all', 'multi_vector'],
      ['/embed_sparse', 'sparse'],
    ]) {
      const packed = await (await send(path, { inputs: TEXTS }, accept)).bytes();
      const query = { query: TEXTS, outputs: [outputs] };
      expect(unpack(packed)).toEqual(unpack(await (await send('/encode', query, accept)).bytes()));
    }
    const raw = { accept: 'application/octet-stream' };
    expect((await send('/embed', { inputs: TEXTS }, raw)).status).toBe(200);
    expect((await send('/embed_sparse', { inputs: TEXTS }, raw)).status).toBe(406);
    expect((await send('/rerank', { query: 'a', texts: ['b'] }, raw)).status).toBe(406);
  });

  test('the side that is cut can be chosen', async () => {
    const [start, end] = ['начало '.repeat(600), ' конец'.repeat(600)];
    const ends = (direction: string) =>
      ask('/embed', { inputs: start + end, truncation_direction: direction });
    const [left, right] = await Promise.all([ends('Left'), ends('right')]);
    expect(left).not.toEqual(right);
    expect(right).toEqual(await ask('/embed', { inputs: start + end }));
    const reply = await send('/embed', { inputs: start + end });
    expect(reply.headers.get('x-truncated-count')).toBe('1');
  });
});

describe('scores', () => {
  test('/similarity is the cosine', async () => {
    const { scores } = await ask('/score', {
      query: TEXTS[0],
      texts: TEXTS.slice(1),
      outputs: ['dense'],
    });
    const inputs = { source_sentence: TEXTS[0], sentences: TEXTS.slice(1) };
    expect(await ask('/similarity', { inputs })).toEqual(scores.dense);
  });

  test('/rerank sorts by the score of all heads', async () => {
    const [query, ...texts] = TEXTS;
    const { scores } = await ask('/score', { query, texts });
    const ranks = scores.weighted
      .map((score: number, index: number) => ({ index, text: texts[index], score }))
      .toSorted((a: { score: number }, b: { score: number }) => b.score - a.score);
    expect(await ask('/rerank', { query, texts, return_text: true })).toEqual(ranks);
    const bare = await ask('/rerank', { query, texts, raw_scores: true });
    expect(bare[0]).toEqual({ index: ranks[0].index, score: ranks[0].score });
    const dense = await ask('/rerank', { query, texts, outputs: ['dense'] });
    const best = Math.max(...(await ask('/score', { query, texts })).scores.dense);
    expect(dense[0].score).toBe(best);
  });
});

describe('a request of which one text is refused', () => {
  const long = 'договор '.repeat(600);

  test.each([
    ['/rerank', { query: 'а', texts: ['б', long], truncate: false }],
    ['/score', { query: 'а', texts: ['б', long], truncate: false }],
  ])('%s computes nothing of it', async (path, body) => {
    const batchCount = async () => {
      const samples = [...(await scrape(server.url))];
      const batches = samples.filter(([name]) => name.startsWith('bge_encoder_batches_total'));
      return batches.reduce((sum, [, count]) => sum + count, 0);
    };
    const before = await batchCount();
    expect((await send(path, body)).status).toBe(422);
    // What came after it has run, so what was sent before has run as well.
    expect((await send('/embed', { inputs: 'в' })).status).toBe(200);
    expect(await batchCount()).toBe(before + 1);
  });
});

describe('what surrounds them', () => {
  const HEADERS = [
    ...['x-compute-time', 'x-compute-characters', 'x-compute-tokens', 'x-total-time'],
    ...['x-tokenization-time', 'x-queue-time', 'x-inference-time'],
  ];

  test.each([
    ['/embed', { inputs: ['ab', '𝒳'] }],
    ['/embed_all', { inputs: ['ab', '𝒳'] }],
    ['/embed_sparse', { inputs: ['ab', '𝒳'] }],
    ['/rerank', { query: 'ab', texts: ['𝒳'] }],
    ['/similarity', { inputs: { source_sentence: 'ab', sentences: ['𝒳'] } }],
  ])('%s tells times, tokens and characters in whole numbers', async (path, body) => {
    const { headers } = await send(path, body);
    for (const name of HEADERS) expect(headers.get(name)).toMatch(/^\d+$/);
    expect(headers.get('x-compute-type')).toBe('cpu');
    expect(headers.get('x-compute-characters')).toBe('3');
    const counted = await Promise.all(['ab', '𝒳'].map((inputs) => ask('/tokenize', { inputs })));
    expect(headers.get('x-compute-tokens')).toBe(String(counted.flat(2).length));
  });

  /** Caught, planted: the model's own limit, as it was, where memory is for less. */
  test('/info tells the longest text that fits the memory', async () => {
    const narrow = await startHeadsServer({ EMBEDDED_MEMORY_MB: '1' });
    const info = await (await fetch(`${narrow.url}/info`)).json();
    const body = JSON.stringify({ inputs: 'a '.repeat(600) });
    const reply = await fetch(`${narrow.url}/embed`, { method: 'POST', body });
    const { code, limit } = (await reply.json()) as { code?: string; limit?: number };
    await narrow.close();
    expect(info.model.max_tokens).toBe(512);
    expect(info.max_input_length).toBeLessThan(512);
    expect({ code, limit }).toEqual({ code: 'EMB_TEXT_TOO_LONG', limit: info.max_input_length });
  });

  test('/info has the fields of TEI beside ours', async () => {
    const info = await (await fetch(`${server.url}/info`)).json();
    expect(info).toMatchObject({
      model_id: 'BAAI/bge-m3',
      served_model_name: 'small',
      model_dtype: 'float32',
      model_type: { embedding: { pooling: 'cls' } },
      max_input_length: 512,
      max_client_batch_size: 2048,
      auto_truncate: true,
      tokenization_workers: 1,
      model: { id: 'small' },
    });
    for (const name of ['max_concurrent_requests', 'max_batch_tokens', 'max_batch_requests']) {
      expect(info[name]).toBeNumber();
    }
    // Caught: 1 for BGE-M3 on a CPU. Clients cut texts to the lesser of the two.
    expect(info.max_batch_tokens).toBeGreaterThanOrEqual(info.max_input_length);
    for (const name of ['version', 'model_sha']) expect(info[name]).toBeString();
    for (const name of ['sha', 'docker_label']) expect(info[name]).toBeNull();
  });

  test.each([
    ['/embed', { inputs: [] }, 400, 'Empty', 'inputs'],
    ['/embed', { inputs: [] }, 400, 'Empty', 'inputs'],
    ['/embed', {}, 422, 'Validation', 'inputs'],
    ['/embed', { inputs: [1, 2] }, 422, 'Validation', 'inputs'],
    ['/embed', { inputs: ['a', [1]] }, 422, 'Validation', 'inputs[1]'],
    ['/embed', { inputs: 'a', dimensions: 7 }, 422, 'Validation', 'dimensions'],
    ['/embed', { inputs: 'a', prompt_name: 'x' }, 422, 'Validation', 'prompt_name'],
    ['/embed', { inputs: 'а '.repeat(999), truncate: false }, 422, 'Validation', 'inputs'],
    ['/rerank', { query: ['a'], texts: ['b'] }, 422, 'Validation', 'query'],
    ['/rerank', { query: 'a', texts: 'b' }, 422, 'Validation', 'texts'],
    ['/rerank', { query: 'a', texts: [] }, 400, 'Empty', 'texts'],
    ['/similarity', {}, 422, 'Validation', 'inputs.source_sentence'],
  ] as const)(
    '%s refuses in the shape of TEI, case %#',
    async (path, body, status, type, field) => {
      const reply = await send(path, body);
      expect(reply.status).toBe(status);
      const told = await reply.json();
      expect(told).toMatchObject({ error_type: type, field });
      expect(told.error).toContain(field);
    },
  );

  test('a model without the head answers 424', async () => {
    const dense = await startHeadsServer({}, { heads: ['dense'] });
    try {
      const init = { method: 'POST', body: JSON.stringify({ inputs: 'a' }) };
      for (const path of ['/embed_sparse', '/embed_all']) {
        const reply = await fetch(dense.url + path, init);
        expect(reply.status).toBe(424);
        expect(await reply.json()).toMatchObject({ error_type: 'Backend' });
      }
    } finally {
      await dense.close();
    }
  });
});
