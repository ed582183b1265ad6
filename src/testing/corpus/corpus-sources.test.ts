import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import zlib from 'node:zlib';
import { seededRandom } from '../seeded-random.ts';
import { type CorpusStand, rowsOfJsonLines, startCorpusStand } from './corpus-stand.ts';
import { runReader } from './run-readers.ts';

/**
 * The same texts in every layout and packing come to the same rows.
 *
 * Faults that were planted to see these fail: a line over two blocks cut at their border; a byte
 * order mark left on the first field; a record skipped where a packed file is taken up again.
 */

setDefaultTimeout(60_000);

let stand: CorpusStand;

beforeAll(() => {
  stand = startCorpusStand();
});

afterAll(() => stand.close());

const random = seededRandom(9);
/** Quotes, tabs, commas, line ends inside, letters of four bytes. */
const RECORDS = Array.from({ length: 700 }, (_, index) => ({
  id: `${index}`,
  text: `№ ${index}, «а "б" в»\n${'я😀'.repeat(random.below(400))}`,
}));
const LINES = RECORDS.map(({ id, text }) => ({ id, text: text.replace('\n', ' ') }));

const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
const jsonl = RECORDS.map((record) => JSON.stringify(record)).join('\r\n');
const csv = ['id,text', ...RECORDS.map(({ id, text }) => `${id},${quoted(text)}`)].join('\n');
const tsv = ['id\ttext', ...LINES.map(({ id, text }) => `${id}\t${text}`)].join('\n');

const LAYOUTS: readonly (readonly [name: string, content: string, texts: typeof RECORDS])[] = [
  ['laws.jsonl', `\uFEFF${jsonl}\n\n`, RECORDS],
  ['laws.json', JSON.stringify(RECORDS, null, 1), RECORDS],
  ['laws.csv', `\uFEFF${csv}`, RECORDS],
  ['laws.tsv', tsv, LINES],
  ['laws.txt', `${LINES.map(({ text }) => text).join('\n')}\n`, LINES],
];

const PACKINGS = {
  '': (bytes: Buffer) => bytes,
  // In two members, as `cat a.gz b.gz` and log rotation make them.
  '.gz': (bytes: Buffer) =>
    Buffer.concat([zlib.gzipSync(bytes.subarray(0, 999)), zlib.gzipSync(bytes.subarray(999))]),
  '.zst': (bytes: Buffer) => zlib.zstdCompressSync(bytes),
} as const;

describe.each(Object.entries(PACKINGS))('packed as "%s"', (ending, pack) => {
  test.each(LAYOUTS)('%s', async (name, content, records) => {
    const source = await stand.write(name + ending, pack(Buffer.from(content)));
    const to = stand.path(`out-${name}${ending}`);
    const id = name === 'laws.txt' ? [] : ['--id', 'id'];
    const words = [
      source,
      '--to',
      to,
      '--format',
      'jsonl',
      '--carry',
      'text',
      '--part-texts',
      '100',
    ];
    await stand.embed([...words, ...id]);
    const rows = await rowsOfJsonLines(to);
    expect(rows.map(({ id, text }) => ({ id: String(id), text }))).toEqual(records);
  });

  test('is taken up again where it was', async () => {
    const source = await stand.write(`again.jsonl${ending}`, pack(Buffer.from(jsonl)));
    const to = stand.path(`again${ending}`);
    const words = [source, '--to', to, '--format', 'jsonl', '--id', 'id', '--part-texts', '90'];
    const interrupt = new AbortController();
    stand.answer = (_, texts) => {
      if (texts.some((text) => text.startsWith('№ 400,'))) interrupt.abort(new Error('stopped'));
      return undefined;
    };
    await expect(stand.embed(words, interrupt.signal)).rejects.toThrow('stopped');
    stand.answer = undefined;
    await stand.embed(words);
    expect((await rowsOfJsonLines(to)).map(({ id }) => id)).toEqual(RECORDS.map(({ id }) => id));
  });
});

test('Parquet of pyarrow, nested, in every compression and over row groups', async () => {
  await runReader('write_nested.py', stand.folder);
  const words = [
    '--text',
    'body.parts.text',
    '--id',
    'key',
    '--carry',
    'tags',
    '--part-texts',
    '7',
  ];
  const to = stand.path('out-parquet');
  await stand.embed([stand.path('nested-*.parquet'), '--to', to, '--format', 'jsonl', ...words]);
  const rows = await rowsOfJsonLines(to);
  expect(rows.length).toBe(60);
  expect(rows.slice(0, 3)).toMatchObject([{ tags: [] }, { tags: ['а'] }, { tags: ['а', 'б'] }]);
  const part = await Bun.file(`${to}/part-000000.jsonl`).text();
  // Past what a double holds exactly.
  expect(part).toContain('"id":9007199254740993,');
  expect(stand.textsSent()).toContain('статья 9');
});

test('a folder gives its files of texts in order, whole documents too', async () => {
  await stand.write('docs/b.md', '# Устав\nтекст');
  await stand.write('docs/a/c.md', 'договор');
  await stand.write('docs/picture.png', 'no text');
  await stand.write('docs/.hidden.md', 'hidden');
  const to = stand.path('out-docs');
  await stand.embed([stand.path('docs'), '--to', to, '--format', 'jsonl', '--id', 'path']);
  const ids = (await rowsOfJsonLines(to)).map(({ id }) => id);
  expect(ids).toEqual([stand.path('docs/a/c.md'), stand.path('docs/b.md')]);
});

test.each([
  ['broken.json', '[{"text":"а"},', /broken\.json cannot be read: .*breaks off/],
  ['broken.jsonl.gz', 'no gzip', /broken\.jsonl\.gz cannot be read/],
  ['broken.parquet', 'no parquet at all', /broken\.parquet cannot be read/],
  ['laws.xyz', 'а', /--input-format/],
])('%s is refused by name', async (name, content, words) => {
  const source = await stand.write(name, content);
  const job = stand.embed([source, '--to', stand.path(`out-${name}`)]);
  await expect(job).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_INVALID',
    message: expect.stringMatching(words),
  });
});
