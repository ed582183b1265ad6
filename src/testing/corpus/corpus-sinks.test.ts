import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { scriptedReply } from '../scripted-encode-server.ts';
import { seededRandom } from '../seeded-random.ts';
import { type CorpusStand, startCorpusStand } from './corpus-stand.ts';
import { type ReadRow, readBack } from './run-readers.ts';

/**
 * What the sinks write, read back bit for bit by pyarrow, polars, DuckDB and numpy.
 *
 * Faults that were planted to see these fail: a repetition level of 0 for each token; the level of
 * an empty list one too low.
 */

setDefaultTimeout(120_000);

const DIMENSION = 96;
/** Over two row groups of 8 MB with all heads. */
const TEXT_COUNT = 3000;

let stand: CorpusStand;
let source: string;

beforeAll(async () => {
  stand = startCorpusStand();
  stand.model = { ...stand.model, dim: DIMENSION };
  stand.answer = (_, texts) =>
    scriptedReply(texts, {
      dimension: DIMENSION,
      rows: texts.map((text) => vectorOf(text, DIMENSION)),
      sparse: texts.map((text) => sparseOf(text)),
      multiVectors: texts.map((text) => ({
        tokenCount: tokensOf(text),
        data: vectorOf(`m${text}`, tokensOf(text) * DIMENSION),
      })),
      truncated: texts.map((text) => text.endsWith('7')),
    });
  const lines = Array.from({ length: TEXT_COUNT }, (_, index) =>
    JSON.stringify({
      id: `№${index}`,
      year: index % 5 === 0 ? null : 1990 + index,
      text: textOf(index),
    }),
  );
  source = await stand.write('laws.jsonl', lines.join('\n'));
});

afterAll(() => stand.close());

function textOf(index: number): string {
  return index % 10 === 9 ? '' : `статья ${index}`;
}

function vectorOf(text: string, length: number): Float32Array {
  const random = seededRandom(Bun.hash.xxHash32(text));
  return Float32Array.from({ length }, () => random.between(-1_000_000, 1_000_000) / 3e6);
}

function tokensOf(text: string): number {
  // Some texts have no token beside the first, and so no row.
  return Bun.hash.xxHash32(text) % 21;
}

function sparseOf(text: string) {
  const count = Bun.hash.xxHash32(`s${text}`) % 12;
  return {
    indices: Int32Array.from({ length: count }, (_, index) => index * 1000 + 7),
    values: vectorOf(`s${text}`, count),
  };
}

type Dtype = 'float32' | 'float16';

function base64Of(values: Float32Array | Int32Array, dtype: Dtype): string {
  const exact =
    dtype === 'float16' && values instanceof Float32Array
      ? new Float32Array(new Float16Array(values))
      : values;
  return Buffer.from(exact.buffer, exact.byteOffset, exact.byteLength).toString('base64');
}

function expectedRows(dtype: Dtype): ReadRow[] {
  return Array.from({ length: TEXT_COUNT }, (_, index) => {
    const text = textOf(index);
    const year = index % 5 === 0 ? null : 1990 + index;
    if (text === '') {
      const error = 'EMB_TEXT_EMPTY: text is empty';
      const none = { token_count: null, truncated: null, embedding: null };
      const heads = { sparse_indices: null, sparse_values: null, multi_vector: null };
      return { id: `№${index}`, year, error, ...none, ...heads };
    }
    const sparse = sparseOf(text);
    const multi = vectorOf(`m${text}`, tokensOf(text) * DIMENSION);
    return {
      id: `№${index}`,
      year,
      error: null,
      token_count: text.length,
      truncated: text.endsWith('7'),
      embedding: base64Of(vectorOf(text, DIMENSION), dtype),
      sparse_indices: base64Of(sparse.indices, dtype),
      sparse_values: base64Of(sparse.values, dtype),
      multi_vector: Array.from({ length: tokensOf(text) }, (_, token) =>
        base64Of(multi.slice(token * DIMENSION, (token + 1) * DIMENSION), dtype),
      ),
    };
  });
}

const KINDS = {
  pyarrow: {
    float32: /^fixed_size_list<.*float.*>\[96\]$/,
    float16: /^fixed_size_list<.*halffloat.*>\[96\]$/,
  },
  polars: {
    float32: /^Array\(Float32, shape=\(96,\)\)$/,
    float16: /^Array\(Float16, shape=\(96,\)\)$/,
  },
  duckdb: { float32: /^FLOAT\[\]$/, float16: /^FLOAT\[\]$/ },
} as const;

describe.each(['float32', 'float16'] as const)('Parquet with every head in %s', (dtype) => {
  let folder: string;
  const words = ['--id', 'id', '--carry', 'year', '--part-texts', '2048'];

  beforeAll(async () => {
    folder = stand.path(`parquet-${dtype}`);
    const heads = ['--heads', 'dense,sparse,multi_vector', '--dtype', dtype];
    await stand.embed([source, '--to', folder, ...words, ...heads]);
  });

  test.each(['pyarrow', 'polars', 'duckdb'] as const)('%s reads it', async (reader) => {
    const { kinds, rows } = await readBack(reader, folder);
    expect(kinds.embedding).toMatch(KINDS[reader][dtype]);
    expect(rows.length).toBe(TEXT_COUNT);
    const expected = expectedRows(dtype);
    for (const [index, row] of rows.entries()) expect(row).toEqual(expected[index] as ReadRow);
  });
});

test.each(['float32', 'float16'] as const)('numpy maps npy in %s', async (dtype) => {
  const folder = stand.path(`npy-${dtype}`);
  const words = ['--format', 'npy', '--id', 'id', '--dtype', dtype, '--part-texts', '700'];
  await stand.embed([source, '--to', folder, ...words]);
  const { kinds, rows } = await readBack('numpy', folder);
  expect(kinds.embedding).toBe(dtype);
  const good = expectedRows(dtype).filter(({ error }) => error === null);
  expect(rows.map(({ id, embedding }) => [id, embedding])).toEqual(
    good.map(({ id, embedding }) => [id, embedding]),
  );
  const errors = await Bun.file(`${folder}/part-000000.errors.jsonl`).text();
  expect(JSON.parse(errors.split('\n')[0] ?? '')).toEqual({
    id: '№9',
    error: 'EMB_TEXT_EMPTY: text is empty',
  });
});

test('lines of an OpenAI batch come back as its result lines', async () => {
  const line = (index: number, input: unknown) =>
    JSON.stringify({
      custom_id: `request-${index}`,
      method: 'POST',
      url: '/v1/embeddings',
      body: { model: 'bge-m3', input },
    });
  const inputs = ['статья 1', ['статья 2'], '', ['статья 3', 'статья 4'], ['статья 5', ''], [1, 2]];
  const batch = await stand.write(
    'batch.jsonl',
    [...inputs.map((input, at) => line(at, input)), '{broken'].join('\n'),
  );
  const to = stand.path('batch');
  const words = ['--input-format', 'openai-batch', '--format', 'openai-batch'];
  await stand.embed([batch, '--to', to, ...words]);
  const lines = (await Bun.file(`${to}/part-000000.jsonl`).text()).trim().split('\n');
  const results = lines.map((text) => JSON.parse(text));
  expect(results[0]).toEqual({
    id: expect.stringMatching(/^batch_req_\w+$/),
    custom_id: 'request-0',
    response: {
      status_code: 200,
      request_id: expect.any(String),
      body: {
        object: 'list',
        data: [{ object: 'embedding', index: 0, embedding: expect.any(Array) }],
        model: 'scripted',
        usage: { prompt_tokens: 8, total_tokens: 8 },
      },
    },
    error: null,
  });
  const [{ embedding }] = results[0].response.body.data;
  expect(embedding.map(Math.fround)).toEqual([...vectorOf('статья 1', DIMENSION)]);
  expect(results[1].custom_id).toBe('request-1');
  const refused = (code: string, param: string) => ({
    response: { status_code: 422, body: { error: { type: 'invalid_request_error', code, param } } },
    error: null,
  });
  expect(results[2]).toMatchObject(refused('EMB_TEXT_EMPTY', 'input'));
  const { data, usage } = results[3].response.body;
  const both = ['статья 3', 'статья 4'].map((text) => [...vectorOf(text, DIMENSION)]);
  expect(data.map(({ index }: { index: number }) => index)).toEqual([0, 1]);
  expect(data.map((row: { embedding: number[] }) => row.embedding.map(Math.fround))).toEqual(both);
  expect(usage).toEqual({ prompt_tokens: 16, total_tokens: 16 });
  expect(results[4]).toMatchObject(refused('EMB_TEXT_EMPTY', 'input[1]'));
  expect(results[5]).toMatchObject(refused('EMB_FIELD_INVALID', 'input'));
  expect(results[6]).toMatchObject({ response: null, error: { code: 'EMB_BODY_MALFORMED' } });
  expect(results.length).toBe(7);
  // Wherever parts are cut, a request stays whole; so it does when the job is taken up again.
  const small = stand.path('batch-small');
  await stand.embed([batch, '--to', small, ...words, '--part-texts', '1']);
  await Bun.file(`${small}/part-000003.jsonl`).delete();
  await stand.embed([batch, '--to', small, ...words, '--part-texts', '1']);
  const parts = await Promise.all(
    lines.map((_, part) => Bun.file(`${small}/part-00000${part}.jsonl`).text()),
  );
  expect(parts.join('')).toBe(`${lines.join('\n')}\n`);
});
