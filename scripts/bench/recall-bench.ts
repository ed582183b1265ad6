/**
 * What a search over Russian legal texts loses by rows of fewer bytes, with the embedded default
 * model: `bun scripts/bench/recall-bench.ts`. The texts are this project's own: twenty passages
 * among pages of prose, and questions to both.
 */
import { LEGAL_PAIRS } from '../../src/testing/legal-pairs.ts';
import { legalProse, legalQueries } from '../../src/testing/legal-prose.ts';
import { startServer } from '../../src/testing/start-server.ts';
import { until } from '../../src/testing/until.ts';
import { quantizeRow } from '../../src/vectors/quantize.ts';
import { count, readFlags, SEED } from '../flags.ts';
import { textTable } from './report/text-table.ts';
import { runScript } from './run-script.ts';

const FLAGS = {
  texts: count(1000, [100, 100_000], 'texts that are searched'),
  queries: count(180, [0, 10_000], 'queries beside those of the twenty passages'),
  seed: SEED,
};

const NEAREST_COUNT = 10;
const TEXTS_PER_REQUEST = 50;
const TEXT_CHARS_MIN = 150;

type Row = Float32Array | Int8Array | Uint8Array;

/** A form of rows, and the distance by which a store compares them. */
interface Form {
  readonly name: string;
  readonly bytes: (dimension: number) => number;
  rowOf(row: Float32Array): Row;
  /** Higher is nearer. */
  score(a: Row, b: Row): number;
}

const FORMS: readonly Form[] = [
  { name: 'float32, cosine', bytes: (size) => 4 * size, rowOf: (row) => row, score: cosine },
  {
    name: 'int8, cosine',
    bytes: (size) => size,
    rowOf: (row) => quantizeRow(row, 'int8'),
    score: cosine,
  },
  {
    name: 'uint8, cosine less 128',
    bytes: (size) => size,
    rowOf: (row) => Float32Array.from(quantizeRow(row, 'uint8'), (value) => value - 128),
    score: cosine,
  },
  {
    name: 'uint8, cosine as it is',
    bytes: (size) => size,
    rowOf: (row) => quantizeRow(row, 'uint8'),
    score: cosine,
  },
  {
    name: 'ubinary, Hamming',
    bytes: (size) => size / 8,
    rowOf: (row) => quantizeRow(row, 'ubinary'),
    score: hamming,
  },
  {
    name: 'binary, Hamming',
    bytes: (size) => size / 8,
    rowOf: (row) => quantizeRow(row, 'binary'),
    score: hamming,
  },
];

async function main(): Promise<void> {
  const { texts: textCount, queries: queryCount, seed } = readFlags(import.meta.path, FLAGS);
  const prose = {
    language: 'russian' as const,
    lengthMin: TEXT_CHARS_MIN,
    count: textCount - LEGAL_PAIRS.length,
    seed,
  };
  const texts = [...LEGAL_PAIRS.map(({ passage }) => passage), ...legalProse(prose)];
  const queries = [
    ...LEGAL_PAIRS.map(({ query }) => query),
    ...legalQueries({ count: queryCount, seed: seed + 1 }),
  ];
  const server = await startServer({ BACKEND: 'embedded' });
  try {
    await until('the server is ready', async () => (await fetch(`${server.url}/ready`)).ok);
    const rows = await rowsOf(server.url, { texts, inputType: 'passage' });
    const asked = await rowsOf(server.url, { texts: queries, inputType: 'query' });
    console.log(`${texts.length} texts, ${queries.length} queries, ${server.parts.manifest.id}`);
    console.log(report(rows, asked));
  } finally {
    await server.close();
  }
}

async function rowsOf(
  url: string,
  { texts, inputType }: { readonly texts: readonly string[]; readonly inputType: string },
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (let start = 0; start < texts.length; start += TEXTS_PER_REQUEST) {
    const query = texts.slice(start, start + TEXTS_PER_REQUEST);
    const reply = await fetch(`${url}/encode`, {
      method: 'POST',
      body: JSON.stringify({ query, input_type: inputType }),
    });
    if (!reply.ok) throw new Error(await reply.text());
    const { embeddings } = (await reply.json()) as { embeddings: number[][] };
    rows.push(...embeddings.map((row) => Float32Array.from(row)));
  }
  return rows;
}

function report(rows: readonly Float32Array[], queries: readonly Float32Array[]): string {
  const dimension = rows[0].length;
  const [exact, ...others] = FORMS.map((form) => nearestOf(form, { rows, queries }));
  return textTable(
    ['rows', 'bytes', 'recall at 10', 'own passage first', 'own passage in 10'],
    [exact, ...others].map((found, index) => {
      const kept = found.map((nearest, query) => {
        const right = new Set(exact[query]);
        return nearest.filter((text) => right.has(text)).length / NEAREST_COUNT;
      });
      const recall = kept.reduce((sum, part) => sum + part, 0) / kept.length;
      const pairs = found.slice(0, LEGAL_PAIRS.length);
      const { name, bytes } = FORMS[index];
      return [
        name,
        String(bytes(dimension)),
        recall.toFixed(3),
        String(pairs.filter((nearest, pair) => nearest[0] === pair).length),
        String(pairs.filter((nearest, pair) => nearest.includes(pair)).length),
      ];
    }),
  );
}

/** The nearest texts of each query, best first; of equals the earlier text. */
function nearestOf(
  form: Form,
  { rows, queries }: { rows: readonly Float32Array[]; queries: readonly Float32Array[] },
): number[][] {
  const stored = rows.map((row) => form.rowOf(row));
  return queries.map((query) => {
    const asked = form.rowOf(query);
    return stored
      .map((row, index) => ({ index, score: form.score(asked, row) }))
      .sort((a, b) => b.score - a.score || a.index - b.index)
      .slice(0, NEAREST_COUNT)
      .map(({ index }) => index);
  });
}

function cosine(a: Row, b: Row): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let index = 0; index < a.length; index++) {
    dot += a[index] * b[index];
    aa += a[index] * a[index];
    bb += b[index] * b[index];
  }
  return dot / Math.sqrt(aa * bb);
}

function hamming(a: Row, b: Row): number {
  let different = 0;
  for (let index = 0; index < a.length; index++) {
    let bits = (a[index] ^ b[index]) & 0xff;
    for (; bits !== 0; bits &= bits - 1) different++;
  }
  return -different;
}

await runScript('recall-bench', main);
