import {
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { openRecordChunker } from '../../corpus/chunks/chunk-records.ts';
import { corpusOptions } from '../../corpus/flags.ts';
import { legalProse } from '../legal-prose.ts';
import { openRealTokenizers } from '../real-tokenizer.ts';
import type { ReferenceTokenizer } from '../reference-tokenizer.ts';
import { scriptedReply } from '../scripted-encode-server.ts';
import {
  bytesOfFolder,
  type CorpusStand,
  ENTRY,
  rowsOfJsonLines,
  startCorpusStand,
} from './corpus-stand.ts';
import { runReader } from './run-readers.ts';
import { startNats } from './start-nats.ts';
import { startPostgres } from './start-postgres.ts';

/**
 * Jobs that cut their texts into chunks. The server counts tokens by the reference, `tokenizers` in
 * Rust, and ends the job over a chunk that has one too many; Python holds each chunk against a
 * slice of its text.
 *
 * Faults that were planted to see these fail: places in UTF-16 units; the prefix not counted; a
 * record that counts as done with its first chunk; the fingerprint without the overlap.
 */

setDefaultTimeout(120_000);

const PREFIX = 'passage: ';

let reference: ReferenceTokenizer;
let stand: CorpusStand;

beforeAll(async () => {
  ({ reference } = await openRealTokenizers());
});

beforeEach(() => {
  stand = startCorpusStand();
  const prefixes = { query: 'query: ', passage: PREFIX };
  stand.model = { ...stand.model, id: 'multilingual-e5-small', max_tokens: 512, prefixes };
  stand.answer = async (_, texts) => scriptedReply(texts, await counted(texts));
});

afterEach(() => stand.close());

async function counted(texts: readonly string[]) {
  const prefixed = texts.map((text) => PREFIX + text);
  const encoded = await reference.encode(prefixed, { specialTokens: true });
  const tokenCounts = encoded.map(({ ids }) => ids.length);
  return { model: 'multilingual-e5-small', tokenCounts };
}

const PROSE = legalProse({ language: 'russian', lengthMin: 900, count: 12, seed: 8 });

/** Texts of every kind, none of which fits. */
const HARD: readonly string[] = [
  PROSE.join('\n\n'),
  PROSE.slice(0, 4).join('\r\n').replaceAll('и', 'и\u0306'),
  '第三百条　当事人应当履行合同。「違反」した場合、損害を賠償する。'.repeat(30),
  '👩‍👩‍👧‍👦 🇷🇺🇩🇪 👍🏽 '.repeat(60),
  'aZ09+/='.repeat(300),
  `начало${' '.repeat(100_000)}конец ${PROSE[0]}\n`,
  `суд\u0000${'срок\u0000давности\u0000 '.repeat(90)}`,
  `e${'\u0301\u0327'.repeat(4000)}`,
  'ﷺ㍿½ '.repeat(80),
];

function writeLaws(texts: readonly string[]): Promise<string> {
  const lines = texts.map((text, index) =>
    JSON.stringify({ id: `law-${index}`, court: `ВС ${index}`, text }),
  );
  return stand.write('laws.jsonl', `${lines.join('\n')}\n`);
}

const FIELDS = ['--id', 'id', '--carry', 'court'];
const CHUNKS = ['--chunk-tokens', '64', '--chunk-overlap', '16', '--chunk-text'];
const SMALL_PARTS = ['--part-texts', '2', '--request-texts', '8'];

interface ReadChunks {
  readonly kinds: Record<string, string>;
  readonly rows: number;
  readonly faults: readonly unknown[];
}

async function readChunks(reader: string, folder: string, source: string): Promise<ReadChunks> {
  return JSON.parse(await runReader('read_chunks.py', reader, folder, source));
}

test('Parquet, JSON Lines and npy have slices of the text, whatever is in it', async () => {
  const source = await writeLaws(HARD);
  const embed = (to: string, ...more: string[]) =>
    stand.embed([source, '--to', stand.path(to), ...FIELDS, ...CHUNKS, ...more]);
  const report = await embed('parquet');
  expect(report).toMatchObject({ texts: HARD.length, truncated: 0, failed: 0 });
  const { chunks: rows } = report;
  expect(rows).toBeGreaterThan(300);
  for (const [reader, kind] of [
    ['pyarrow', 'int64'],
    ['polars', 'Int64'],
    ['duckdb', 'BIGINT'],
  ] as const) {
    const read = await readChunks(reader, stand.path('parquet'), source);
    expect(read).toMatchObject({ rows, faults: [] });
    const { chunk, chunk_start, chunk_end } = read.kinds;
    expect([chunk, chunk_start, chunk_end]).toEqual([kind, kind, kind]);
  }
  for (const format of ['jsonl', 'npy']) {
    await embed(format, '--format', format, ...SMALL_PARTS);
    const read = await readChunks(format, stand.path(format), source);
    expect(read).toMatchObject({ rows, faults: [] });
  }
});

test('a text that fits is chunk 0, and so is one that cannot be encoded', async () => {
  const source = await stand.write(
    'laws.jsonl',
    '{"text":"суд 👍"}\n{"text":5}\n{"text":" "}\n{"text":"\\ud800"}\n',
  );
  stand.answer = async (_, texts) =>
    scriptedReply(texts, {
      ...(await counted(texts)),
      empty: texts.map((text) => text.trim() === ''),
    });
  const to = ['--to', stand.path('out'), '--format', 'jsonl'];
  const report = await stand.embed([source, ...to, ...CHUNKS]);
  expect(report).toMatchObject({ texts: 4, chunks: 4, failed: 3 });
  const place = { chunk: 0, chunk_start: 0 };
  expect(await rowsOfJsonLines(stand.path('out'))).toMatchObject([
    { id: 0, ...place, chunk_end: 5, chunk_text: 'суд 👍' },
    { id: 1, ...place, chunk_end: 0, chunk_text: '', error: expect.stringContaining('INVALID') },
    { id: 2, ...place, chunk_end: 1, chunk_text: ' ', error: expect.stringContaining('EMPTY') },
    { id: 3, ...place, chunk_end: 0, error: expect.stringContaining('NOT_UNICODE') },
  ]);
});

test('a server with another tokenizer ends the job', async () => {
  const source = await writeLaws(PROSE);
  stand.answer = (_, texts) => scriptedReply(texts, { model: 'multilingual-e5-small' });
  const job = stand.embed([source, '--to', stand.path('out'), ...CHUNKS]);
  await expect(job).rejects.toMatchObject({ code: 'CORPUS_MODEL_DIFFERS', exitStatus: 4 });
  await expect(job).rejects.toThrow('in a chunk of at most 64');
});

describe('what cannot be is refused', () => {
  test.each<[string, string, Record<string, unknown>]>([
    ['--chunk-tokens 513: multilingual-e5-small takes 512 tokens', '513', { max_tokens: 512 }],
    ['leave -3 of them', '40', { prefixes: { passage: 'a b '.repeat(20) } }],
    ['MODEL=nowhere ./run.sh embed sets it up', '64', { id: 'nowhere' }],
  ])('by the model: %s', async (words, tokens, model) => {
    stand.model = { ...stand.model, ...model };
    const source = await writeLaws(PROSE);
    const job = stand.embed([source, '--to', stand.path('out'), '--chunk-tokens', tokens]);
    await expect(job).rejects.toMatchObject({ code: 'CORPUS_FLAG_INVALID' });
    await expect(job).rejects.toThrow(words);
    expect(await readdir(stand.folder)).not.toContain('out');
  });

  test('also from code', async () => {
    const chunks = { tokensMax: 64, overlapTokens: 32, carriesText: false };
    const options = corpusOptions({ sources: ['laws.jsonl'], to: 'out', chunks });
    const model = { id: 'multilingual-e5-small', prefix: PREFIX, tokenCountMax: 512 };
    const job = openRecordChunker(options, { environment: {}, entry: ENTRY }, model);
    await expect(job).rejects.toThrow('--chunk-overlap 32 must be less than half of');
  });
});

describe('a job that is taken up again', () => {
  const words = (source: string, to: string, ...more: string[]): string[] => {
    return [source, '--to', stand.path(to), ...FIELDS, ...SMALL_PARTS, ...more];
  };

  test('does what is left, to the same bytes, and counts texts and chunks', async () => {
    const source = await writeLaws([...HARD, ...PROSE]);
    const whole = await stand.embed(words(source, 'whole', ...CHUNKS, '--concurrency', '1'));
    const interrupt = new AbortController();
    const { answer } = stand;
    stand.answer = (request, texts) => {
      const isBegun = existsSync(stand.path('out/part-000000.parquet'));
      if (isBegun) interrupt.abort(new Error('stopped'));
      return answer?.(request, texts);
    };
    const job = stand.embed(words(source, 'out', ...CHUNKS), interrupt.signal);
    await expect(job).rejects.toThrow('stopped');
    const state = stand.path('state.json');
    const progress = ['--progress-file', state];
    const report = await stand.embed(words(source, 'out', ...CHUNKS, ...progress));
    const { texts, chunks, tokens } = whole;
    expect(report).toMatchObject({ texts, chunks, tokens });
    expect(report.textsNow).toBeLessThan(texts);
    expect(await Bun.file(state).json()).toMatchObject({ textsDone: texts, chunksDone: chunks });
    expect(await bytesOfFolder(stand.path('out'))).toEqual(
      await bytesOfFolder(stand.path('whole')),
    );
  });

  test('refuses other chunks by name, and an old manifest knows of none', async () => {
    const source = await writeLaws(PROSE);
    await stand.embed(words(source, 'out', ...CHUNKS));
    const again = (...more: string[]) => expect(stand.embed(words(source, 'out', ...more))).rejects;
    await again('--chunk-tokens', '96', ...CHUNKS.slice(2)).toThrow(
      'chunk-tokens was 64 and is 96',
    );
    await again(...CHUNKS.slice(0, 2), '--chunk-text').toThrow('chunk-overlap was 16 and is 0');
    await again(...CHUNKS.slice(0, 4)).toThrow('chunk-text was true and is false');
    await again().toThrow('chunk-tokens was 64 and is not given');
    await stand.embed(words(source, 'plain'));
    const manifest = await Bun.file(stand.path('plain/_embed/manifest.json')).json();
    expect(Object.keys(manifest.fingerprint).filter((name) => /chunk|token/.test(name))).toEqual([
      'max_tokens',
    ]);
    await rm(stand.path('plain/part-000000.parquet'));
    await stand.embed(words(source, 'plain'));
  });
});

async function planOf(words: readonly string[]): Promise<string> {
  const line = [process.execPath, ENTRY, 'embed', ...words, '--plan'];
  return new Response(Bun.spawn(line, { stdout: 'pipe', stderr: 'inherit' }).stdout).text();
}

test('a plan from a sample is within 3 % of the chunks and their tokens', async () => {
  // Lengths that differ a hundredfold; beyond 20,000 texts one in sixteen is cut.
  const texts = Array.from({ length: 30_000 }, (_, index) => {
    const words = index % 3 === 0 ? 'срок исковой давности ' : 'the lessee shall pay rent, ';
    return words.repeat(1 + ((index * 7919) % 101));
  });
  const source = await writeLaws(texts);
  const out = await planOf([source, '--chunk-tokens', '64', '--chunk-overlap', '16']);
  const chunks = { tokensMax: 64, overlapTokens: 16, carriesText: false };
  const options = corpusOptions({ sources: [source], to: 'out', chunks });
  const model = { id: 'multilingual-e5-small', prefix: PREFIX, tokenCountMax: 512 };
  const chunker = await openRecordChunker(options, { environment: {}, entry: ENTRY }, model);
  const sizes = texts.map((text) => chunker?.sizeOf(text) ?? { chunks: 0, tokens: 0 });
  for (const what of ['chunks', 'tokens'] as const) {
    const planned = Number(new RegExp(`^${what} +(\\d+)`, 'm').exec(out)?.[1]);
    const exact = sizes.reduce((sum, size) => sum + size[what], 0);
    expect(Math.abs(planned / exact - 1)).toBeLessThan(0.03);
  }
});

test('a plan counts the tokens and chunks that the job then has', async () => {
  const source = await writeLaws([...HARD, ...PROSE, 'суд']);
  const words = [source, '--text', 'text', ...CHUNKS];
  const { texts, tokens, chunks } = await stand.embed([...words, '--to', stand.path('out')]);
  expect(texts).toBe(HARD.length + PROSE.length + 1);
  const out = await planOf(words);
  expect(out).toContain(`tokens  ${tokens} (counted), those of all chunks`);
  expect(out).toContain(`chunks  ${chunks} of at most 64 tokens`);
});

test('a table in Postgres has the rows of each record, and so has a queue’s job', async () => {
  const postgres = await startPostgres();
  const nats = await startNats();
  try {
    await postgres.psql(
      'create extension vector; create table laws (key text primary key, body text)',
    );
    const values = PROSE.map((text, index) => `('law-${index}', $t$${text}👍$t$)`);
    await postgres.psql(`insert into laws values ${values.join(', ')}`);
    const from = [postgres.url, '--table', 'laws', '--id', 'key', '--text', 'body'];
    const { chunks } = await stand.embed([...from, '--to', postgres.url, ...CHUNKS]);
    const told = await postgres.psql(
      'select id, chunk_start, chunk_end, chunk_text from embeddings order by id, chunk',
    );
    const rows = told
      .trim()
      .split('\n')
      .map((line) => line.split('|'));
    expect(rows.length).toBe(chunks as number);
    const places = PROSE.map((text) => Array.from(`${text}👍`));
    for (const [id = '', start, end, text] of rows) {
      const own = places[Number(id.replace('law-', ''))]?.slice(Number(start), Number(end));
      expect(text).toBe(own?.join('') ?? '');
    }
    const source = await writeLaws(PROSE);
    const words = [source, ...FIELDS, ...CHUNKS, ...SMALL_PARTS];
    await stand.embed([...words, '--to', stand.path('alone')]);
    const queue = ['--queue', nats.url, '--url', stand.server.url];
    const started = [
      [...words, '--to', stand.path('shared'), ...queue],
      ['--worker', ...queue],
    ];
    const ends = started.map(
      (line) => Bun.spawn([process.execPath, ENTRY, 'embed', ...line]).exited,
    );
    expect(await Promise.all(ends)).toEqual([0, 0]);
    expect(await bytesOfFolder(stand.path('shared'))).toEqual(
      await bytesOfFolder(stand.path('alone')),
    );
  } finally {
    await nats.stop();
    await postgres.stop();
  }
});
