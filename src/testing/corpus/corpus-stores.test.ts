import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFile } from 'node:fs/promises';
import { S3Client } from 'bun';
import { SCRIPTED_DIMENSION, scriptedReply, scriptedRow } from '../scripted-encode-server.ts';
import { seededRandom } from '../seeded-random.ts';
import { until } from '../until.ts';
import {
  bytesOfFolder,
  type CorpusStand,
  jsonLines,
  rowsOfJsonLines,
  startCorpusStand,
} from './corpus-stand.ts';
import { type RunningPostgres, startPostgres } from './start-postgres.ts';
import { type RunningS3, startS3 } from './start-s3.ts';

/**
 * Buckets and tables as sources and sinks, on a real PostgreSQL with pgvector and an S3 server.
 *
 * Faults that were planted to see these fail: `If-None-Match` left out; sparse ids counted from 1;
 * float16 not swapped; the last bit of a number cleared.
 */

setDefaultTimeout(120_000);

const TEXTS = Array.from(
  { length: 300 },
  (_, index) => `статья ${index} ${'а'.repeat(index % 37)}`,
);
const PARTS = ['--part-texts', '64', '--id', 'id'];

let stand: CorpusStand;
let source: string;

beforeAll(async () => {
  stand = startCorpusStand();
  source = await stand.write('laws.jsonl', jsonLines([...TEXTS, '']));
});

afterAll(() => stand.close());

/** Stops a job in its middle. @param hasPart whether a part of it is committed. */
async function interrupted(
  words: readonly string[],
  hasPart: () => Promise<boolean>,
): Promise<void> {
  const interrupt = new AbortController();
  let count = 0;
  stand.answer = async () => {
    if (++count < 8) return undefined;
    await until('a part is committed', hasPart);
    interrupt.abort(new Error('stopped'));
    return undefined;
  };
  const calm = ['--concurrency', '1', '--request-texts', '32'];
  await expect(stand.embed([...words, ...calm], interrupt.signal)).rejects.toThrow('stopped');
  stand.answer = undefined;
}

function numberOf32(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0] as number;
}

/** A float16 by its bits, by the rule of IEEE 754. */
function numberOf16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 0x3ff];
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function hexOf(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('hex');
}

describe('S3', () => {
  let s3: RunningS3;
  let client: S3Client;

  beforeAll(async () => {
    s3 = await startS3('archive');
    stand.environment = s3.environment;
    client = new S3Client({
      bucket: 'archive',
      endpoint: s3.environment.AWS_ENDPOINT_URL ?? '',
      accessKeyId: 'tester',
      secretAccessKey: 'secret',
    });
  });

  afterAll(() => s3?.stop());

  async function bytesOfPrefix(prefix: string): Promise<Record<string, string>> {
    const { contents = [] } = await client.list({ prefix });
    const files: Record<string, string> = {};
    for (const { key } of contents) {
      const bytes = await client.file(key).bytes();
      files[key.slice(prefix.length)] = new Bun.SHA256().update(bytes).digest('hex');
    }
    return files;
  }

  test('a bucket gets the bytes that a folder gets, also when the job is taken up again', async () => {
    const words = [source, ...PARTS];
    await stand.embed([...words, '--to', stand.path('disk')]);
    const firstPart = client.file('vectors/part-000000.parquet');
    await interrupted([...words, '--to', 's3://archive/vectors/'], () => firstPart.exists());
    const begun = await bytesOfPrefix('vectors/');
    const parts = Object.keys(begun).filter((name) => name.startsWith('part'));
    expect(parts.length).toBeGreaterThan(0);
    expect(parts.length).toBeLessThan(5);
    await stand.embed([...words, '--to', 's3://archive/vectors/']);
    expect(await bytesOfPrefix('vectors/')).toEqual(await bytesOfFolder(stand.path('disk')));
  });

  test('what is committed is never written over', async () => {
    await client.write('kept/part-000000.parquet', 'somebody was faster');
    await stand.embed([source, ...PARTS, '--to', 's3://archive/kept']).catch(() => undefined);
    expect(await client.file('kept/part-000000.parquet').text()).toBe('somebody was faster');
  });

  test('objects are sources: one, a prefix, a glob, packed ones too', async () => {
    const bytes = await readFile(source);
    await client.write('laws/a.jsonl.gz', Bun.gzipSync(bytes));
    await client.write('laws/b.jsonl', bytes);
    await client.write('laws/readme.png', 'no text');
    for (const [address, count] of [
      ['s3://archive/laws/b.jsonl', 301],
      ['s3://archive/laws/', 602],
      ['s3://archive/laws/*.gz', 301],
    ] as const) {
      const to = stand.path(`from-${count}-${address.length}`);
      const report = await stand.embed([address, '--to', to, ...PARTS, '--format', 'jsonl']);
      expect(report.texts).toBe(count);
      const ids = (await rowsOfJsonLines(to)).map(({ id }) => id);
      expect(ids.slice(0, 301)).toEqual(Array.from({ length: 301 }, (_, index) => `law-${index}`));
    }
  });

  test('an object that has changed is refused by name', async () => {
    const words = ['s3://archive/laws/b.jsonl', '--to', stand.path('changing'), ...PARTS];
    await stand.embed(words);
    await client.write('laws/b.jsonl', jsonLines(TEXTS.toReversed()));
    await expect(stand.embed(words)).rejects.toThrow(/s3:\/\/archive\/laws\/b\.jsonl has changed/);
  });
});

describe('PostgreSQL', () => {
  let postgres: RunningPostgres;

  beforeAll(async () => {
    postgres = await startPostgres();
  });

  afterAll(() => postgres?.stop());

  test.each(['float32', 'float16'] as const)(
    'rows of every head in %s, each once',
    async (dtype) => {
      stand.answer = (_, texts) =>
        scriptedReply(texts, {
          sparse: texts.map((text) => ({
            // One in three is zero, which pgvector does not take.
            indices: Int32Array.of(0, text.length, 250_001),
            values: Float32Array.of(0.5, 0, 0.25),
          })),
          multiVectors: texts.map((text) => ({
            tokenCount: text.length % 3,
            data: new Float32Array((text.length % 3) * 3).fill(0.125),
          })),
        });
      const table = `vectors_${dtype}`;
      const to = ['--to', postgres.url, '--to-table', table, '--dtype', dtype];
      const heads = ['--heads', 'dense,sparse,multi_vector'];
      const words = [source, ...PARTS, ...to, ...heads];
      const report = await stand.embed(words);
      expect(report).toMatchObject({ texts: 301, failed: 1 });
      // Nothing is done twice.
      await stand.embed(words);
      expect(await postgres.psql(`select count(*), count(distinct id) from ${table}`)).toBe(
        '301|301\n',
      );
      const row = scriptedRow(TEXTS[5] ?? '');
      expect(
        await postgres.psql(`select embedding, sparse, multi_vector, token_count, truncated, error
        from ${table} where id = 'law-5'`),
      ).toBe(
        `[${row.join(',')}]|{1:0.5,250002:0.25}/250002|` +
          `${(TEXTS[5]?.length ?? 0) % 3 === 2 ? '{"[0.125,0.125,0.125]","[0.125,0.125,0.125]"}' : (TEXTS[5]?.length ?? 0) % 3 === 1 ? '{"[0.125,0.125,0.125]"}' : '{}'}|` +
          `${TEXTS[5]?.length}|f|\n`,
      );
      expect(await postgres.psql(`select error from ${table} where embedding is null`)).toBe(
        'EMB_TEXT_EMPTY: text is empty\n',
      );
      stand.answer = undefined;
    },
  );

  test('psql reads back the bits of every number', async () => {
    const texts = Array.from({ length: 40 }, (_, index) => `статья ${index}`);
    const bits = seededRandom(7);
    // Any finite bits that float16 holds too, the smallest and both zeros among them.
    const edges = [0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7bff, 0xfbff, 0x3c00, 0x3555];
    const exact = texts.map(() =>
      Float32Array.from({ length: SCRIPTED_DIMENSION }, () =>
        numberOf16(edges[bits.below(2 * edges.length)] ?? bits.below(0x7c00)),
      ),
    );
    const odd = texts.map(() =>
      Float32Array.from({ length: SCRIPTED_DIMENSION }, () => numberOf32(bits.below(0x7f800000))),
    );
    const source = await stand.write('bits.jsonl', jsonLines(texts));
    for (const [dtype, rows, weight] of [
      ['float32', odd, () => numberOf32(1 + bits.below(0x7f7fffff))],
      ['float16', exact, () => numberOf16(1 + bits.below(0x7bff))],
    ] as const) {
      const sparse = texts.map((_, index) => ({
        indices: Int32Array.of(0, 5 + index, 250_001),
        values: Float32Array.from([1, 2, 3], weight),
      }));
      stand.answer = (_, asked) => {
        const places = asked.map((text) => texts.indexOf(text));
        return scriptedReply(asked, {
          rows: places.map((place) => rows[place] as Float32Array),
          sparse: places.map((place) => sparse[place] as (typeof sparse)[number]),
        });
      };
      const to = ['--to', postgres.url, '--to-table', `bits_${dtype}`, '--dtype', dtype];
      await stand.embed([source, '--id', 'id', ...to, '--heads', 'dense,sparse']);
      stand.answer = undefined;
      // In the order of the texts: law-10 comes after law-9.
      const said = await postgres.psql(
        `select embedding, sparse from bits_${dtype} order by substr(id, 5)::int`,
      );
      const read = said
        .trim()
        .split('\n')
        .map((line) => line.split('|'));
      expect(read.map(([row]) => hexOf(Float32Array.from(JSON.parse(row ?? ''))))).toEqual(
        rows.map(hexOf),
      );
      expect(read.map(([, row]) => row?.replace(/:[^,}]+/g, ''))).toEqual(
        sparse.map(({ indices }) => `{${[...indices].map((id) => id + 1)}}/250002`),
      );
      expect(
        read.map(([, row]) =>
          hexOf(Float32Array.from(row?.matchAll(/:([^,}]+)/g) ?? [], ([, value]) => Number(value))),
        ),
      ).toEqual(sparse.map(({ values }) => hexOf(values)));
    }
  });

  test('taken up again, each row is there once', async () => {
    const words = [source, ...PARTS, '--to', postgres.url, '--to-table', 'again'];
    const count = 'select count(*) > 0 from again';
    await interrupted(words, async () => (await postgres.psql(count)) === 't\n');
    // Whole parts of 64, and not all of them.
    const begun = 'select count(*) % 64, count(*) between 64 and 256 from again';
    expect(await postgres.psql(begun)).toBe('0|t\n');
    await stand.embed(words);
    expect(await postgres.psql('select count(*), count(distinct id) from again')).toBe('301|301\n');
  });

  test('a table is a source, and a column of it is where its vectors go', async () => {
    await postgres.psql(`create schema archive;
      create table archive.laws (id bigint primary key, body text, year int, v vector(3));
      insert into archive.laws select n * 10, 'статья ' || n, 1900 + n % 100 from generate_series(1, 2500) n`);
    const from = [postgres.url, '--table', 'archive.laws', '--text', 'body', '--id', 'id'];
    const parts = ['--part-texts', '700'];
    const to = stand.path('from-table');
    await stand.embed([...from, ...parts, '--carry', 'year', '--to', to, '--format', 'jsonl']);
    const rows = await rowsOfJsonLines(to);
    expect(rows.map(({ id }) => id)).toEqual(
      Array.from({ length: 2500 }, (_, index) => (index + 1) * 10),
    );
    expect(rows[41]).toMatchObject({ year: 1942, embedding: [...scriptedRow('статья 42')] });
    const column = ['--to', postgres.url, '--to-table', 'archive.laws', '--to-column', 'v'];
    await stand.embed([...from, ...parts, ...column]);
    expect(await postgres.psql('select v from archive.laws where id = 420')).toBe(
      `[${scriptedRow('статья 42').join(',')}]\n`,
    );
    expect(await postgres.psql('select count(*) from archive.laws where v is null')).toBe('0\n');
    const twice = await stand.write('twice.jsonl', '{"id":10,"text":"a"}\n{"id":10,"text":"b"}\n');
    await postgres.psql('create table twice (id bigint primary key, v vector(3))');
    const into = ['--to', postgres.url, '--to-table', 'twice', '--to-column', 'v', '--id', 'id'];
    await expect(stand.embed([twice, ...into])).rejects.toThrow('10 in records 1 and 2');
    await postgres.psql(`update archive.laws set body = 'статья новая' where id = 500`);
    const again = stand.embed([
      ...from,
      ...parts,
      '--carry',
      'year',
      '--to',
      to,
      '--format',
      'jsonl',
    ]);
    await expect(again).rejects.toMatchObject({ code: 'CORPUS_SOURCE_CHANGED' });
  });

  test('a query is a source too', async () => {
    const query = '(select id, body from archive.laws where year = 1950)';
    const from = [postgres.url, '--table', query, '--text', 'body', '--id', 'id'];
    const report = await stand.embed([...from, '--to', stand.path('from-query')]);
    expect(report.texts).toBe(25);
  });
});
