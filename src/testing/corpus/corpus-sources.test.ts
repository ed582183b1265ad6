import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdir, rm } from 'node:fs/promises';
import zlib from 'node:zlib';
import type { DealShards } from '../../corpus/embed-corpus.ts';
import type { Lease } from '../../corpus/queue/shard-queue.ts';
import { seededRandom } from '../seeded-random.ts';
import {
  bytesOfFolder,
  type CorpusStand,
  rowsOfJsonLines,
  startCorpusStand,
} from './corpus-stand.ts';
import { runReader } from './run-readers.ts';

/**
 * The same texts in every layout and packing come to the same rows.
 *
 * Faults that were planted to see these fail: a line over two blocks cut at their border; a byte
 * order mark left on the first field; a record skipped where a packed file is taken up again; the
 * place to skip to kept for the next file of a part; the first file of a part named as changed.
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

test('documents fill parts together, and are taken up again in the middle', async () => {
  const texts = Array.from({ length: 250 }, (_, index) => `договор ${1000 + index}`);
  for (const [index, text] of texts.entries()) {
    const packed = index % 2 === 0;
    const bytes = Buffer.from(text);
    const name = `many/${1000 + index}.md${packed ? '.gz' : ''}`;
    await stand.write(name, packed ? zlib.gzipSync(bytes) : bytes);
  }
  await stand.write('many/1005.md', Uint8Array.of(0xff, 0xfe));
  const to = stand.path('out-many');
  const words = [stand.path('many'), '--to', to, '--format', 'jsonl', '--id', 'path'];
  const interrupt = new AbortController();
  stand.answer = (_, some) => {
    if (some.includes('договор 1150')) interrupt.abort(new Error('stopped'));
    return undefined;
  };
  const requestsBefore = stand.server.requests.length;
  const parts = ['--part-texts', '100'];
  await expect(stand.embed([...words, ...parts], interrupt.signal)).rejects.toThrow('stopped');
  stand.answer = undefined;
  await stand.embed([...words, ...parts]);
  // Each run asks `/info`; a request for each text would be 250.
  expect(stand.server.requests.length - requestsBefore).toBeLessThan(12);
  expect(await readdir(to)).toEqual(expect.arrayContaining(['part-000002.jsonl']));
  expect(await readdir(to)).not.toContain('part-000003.jsonl');
  const rows = await rowsOfJsonLines(to);
  const bad = `EMB_BODY_MALFORMED: ${stand.path('many/1005.md')} is UTF-16; make it UTF-8 first: iconv -f utf-16 -t utf-8`;
  expect(rows.map(({ error }) => error ?? undefined)).toEqual(
    texts.map((_, index) => (index === 5 ? bad : undefined)),
  );
  expect(rows.map(({ id }) => id)).toEqual(
    texts.map((_, index) =>
      index === 5 ? null : stand.path(`many/${1000 + index}.md${index % 2 === 0 ? '.gz' : ''}`),
    ),
  );
  await stand.write('many/1201.md', 'договор другой');
  await expect(stand.embed([...words, ...parts])).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_CHANGED',
  });
});

/** Files of three records each, in every layout that people have thousands of. */
async function writeSmallFiles(folder: string, fileCount: number): Promise<string[]> {
  const texts: string[] = [];
  for (let file = 0; file < fileCount; file++) {
    const some = [0, 1, 2].map((record) => `иск ${1000 + file} ${record}`);
    texts.push(...some);
    const name = `${folder}/${1000 + file}`;
    const lines = some.map((text) => JSON.stringify({ text })).join('\n');
    if (file % 4 === 0) await stand.write(`${name}.jsonl`, lines);
    else if (file % 4 === 1) await stand.write(`${name}.csv`, ['text', ...some].join('\n'));
    else if (file % 4 === 2) await stand.write(`${name}.txt`, `${some.join('\n')}\n`);
    else await stand.write(`${name}.jsonl.gz`, zlib.gzipSync(Buffer.from(lines)));
  }
  return texts;
}

test('small files fill parts together, in whatever order their parts are done', async () => {
  const texts = await writeSmallFiles('small', 120);
  // A file without a text is none of a part's.
  await stand.write('small/1030.empty.txt', '\n');
  const words = [stand.path('small'), '--format', 'jsonl', '--carry', 'text'];
  const limits = ['--part-texts', '50', '--request-texts', '25'];
  const requestsBefore = stand.server.requests.length;
  await stand.embed([...words, ...limits, '--to', stand.path('out-small')]);
  // `/info`, and two for each part.
  expect(stand.server.requests.length - requestsBefore).toBeLessThan(20);
  const rows = await rowsOfJsonLines(stand.path('out-small'));
  expect(rows.map(({ id, text }) => [id, text])).toEqual(texts.map((text, row) => [row, text]));
  const parts = (await readdir(stand.path('out-small'))).filter((name) => name.startsWith('part'));
  expect(parts.length).toBe(8);
  const deal: DealShards = async () => ({ leases: leasesOf(4, 3, 7, 0, 6, 1, 2, 5), close });
  await stand.embed([...words, ...limits, '--to', stand.path('out-dealt')], undefined, deal);
  expect(await bytesOfFolder(stand.path('out-dealt'))).toEqual(
    await bytesOfFolder(stand.path('out-small')),
  );
});

const close = async (): Promise<void> => undefined;

async function* leasesOf(...shards: readonly number[]): AsyncGenerator<Lease, void, undefined> {
  for (const shard of shards) yield { shard, done: close };
}

test('small files are taken up again within a part, to the same bytes', async () => {
  await writeSmallFiles('twice', 90);
  const words = [stand.path('twice'), '--format', 'jsonl', '--part-texts', '40'];
  const requests = ['--request-texts', '8'];
  await stand.embed([...words, '--to', stand.path('twice-calm')]);
  const interrupt = new AbortController();
  stand.answer = (_, some) => {
    if (some.includes('иск 1050 1')) interrupt.abort(new Error('stopped'));
    return undefined;
  };
  const job = [...words, ...requests, '--to', stand.path('twice-out')];
  await expect(stand.embed(job, interrupt.signal)).rejects.toThrow('stopped');
  stand.answer = undefined;
  const { texts, textsNow } = await stand.embed(job);
  expect(texts).toBe(270);
  expect(textsNow).toBeLessThan(200);
  expect(await bytesOfFolder(stand.path('twice-out'))).toEqual(
    await bytesOfFolder(stand.path('twice-calm')),
  );
});

test.each([
  ['has another text', 'иск 1082 0\nдругой\nиск 1082 2\n'],
  ['has a text more', 'иск 1082 0\nиск 1082 1\nиск 1082 2\nиск 1082 3\n'],
  ['has a text less', 'иск 1082 0\nиск 1082 1\n'],
  ['is empty', ''],
])('of small files in one part, the one is named that %s while they are read', async (_, now) => {
  await writeSmallFiles('named', 120);
  const texts = [0, 1, 2].map((record) => `иск 1082 ${record}\n`).join('');
  const changed = await stand.write('named/1082.txt', texts);
  const words = [stand.path('named'), '--format', 'jsonl', '--part-texts', '40'];
  stand.answer = async () => {
    await stand.write('named/1082.txt', now);
    return undefined;
  };
  const job = stand.embed([...words, '--to', stand.path('out-named'), '--concurrency', '1']);
  await expect(job).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_CHANGED',
    message: expect.stringContaining(`${changed} has changed`),
  });
  stand.answer = undefined;
  await rm(stand.path('out-named'), { recursive: true });
});

test('semicolons separate where the first line has no comma, as spreadsheets write', async () => {
  const lines = ['дело;текст', '1;"суд; ""иск"", срок"', '2;статья, 5'];
  const source = await stand.write('excel.csv', `\uFEFF${lines.join('\r\n')}\r\n`);
  const to = stand.path('out-excel');
  const words = ['--text', 'текст', '--id', 'дело', '--carry', 'текст', '--format', 'jsonl'];
  await stand.embed([source, '--to', to, ...words]);
  expect((await rowsOfJsonLines(to)).map(({ id, текст }) => [id, текст])).toEqual([
    ['1', 'суд; "иск", срок'],
    ['2', 'статья, 5'],
  ]);
});

/** Letters as Windows wrote them before Unicode: each is one byte, and none is UTF-8. */
const windows1251 = (text: string): Buffer =>
  Buffer.from(
    text.replace(/[А-я]/g, (letter) =>
      String.fromCharCode((letter.codePointAt(0) ?? 0) - 0x410 + 0xc0),
    ),
    'latin1',
  );

test.each(['laws1251.csv', 'laws1251.tsv', 'laws1251.json'])(
  '%s in another encoding is refused, and no other letters are encoded',
  async (name) => {
    const rows = Array.from({ length: 5 }, (_, index) => `суд ${index}`);
    const separator = name.endsWith('.tsv') ? '\t' : ',';
    const content = name.endsWith('.json')
      ? JSON.stringify(rows)
      : ['id,text', ...rows.map((text, index) => `${index},${text}`)]
          .join('\n')
          .replaceAll(',', separator);
    const source = await stand.write(name, windows1251(content));
    await expect(stand.embed([source, '--to', stand.path(`out-${name}`)])).rejects.toMatchObject({
      code: 'CORPUS_SOURCE_INVALID',
      message: expect.stringMatching(
        /laws1251\S+(: the record| cannot be read: it) is not UTF-8; convert it/,
      ),
    });
  },
);

test('one record in another encoding has its error, and the others their rows', async () => {
  const content = Buffer.concat([
    Buffer.from('id,text\n1,суд\n2,'),
    windows1251('иск'),
    Buffer.from('\n3,срок\n'),
  ]);
  const source = await stand.write('mixed.csv', content);
  const to = stand.path('out-mixed');
  await stand.embed([source, '--to', to, '--format', 'jsonl', '--id', 'id', '--carry', 'text']);
  expect((await rowsOfJsonLines(to)).map(({ text, error }) => [text, error ?? null])).toEqual([
    ['суд', null],
    [null, 'EMB_BODY_MALFORMED: the record is not UTF-8'],
    ['срок', null],
  ]);
});

/** Every byte of it is one of UTF-8, too. */
const WIDE = Buffer.from('Статья 1\nо договоре аренды\n', 'utf16le');
const TAR = Buffer.alloc(1024);
TAR.write('laws.txt');
TAR.write('ustar\u{0}00', 257);

test('zeros that a crash has left cost their lines, and not the file', async () => {
  const lines = '{"text":"а"}\n\0\0\0\0\0\0\n{"text":"б"}\n';
  const source = await stand.write('crashed.jsonl', lines);
  const job = [source, '--to', stand.path('out-crashed')];
  expect(await stand.embed(job)).toMatchObject({ texts: 3, failed: 1 });
});

test.each([
  ['wrapped.json', '\uFEFF{"laws":[{"text":"а"}]}', /wrapped\.json .*array.*--input-format jsonl/],
  ['nested.jsonl', '{"case":1,"body":{"text":"а"}}', /A record has case, body\.text\./],
  ['broken.json', '[{"text":"а"},', /broken\.json cannot be read: .*breaks off/],
  ['broken.jsonl.gz', 'no gzip', /broken\.jsonl\.gz cannot be read/],
  ['broken.parquet', 'no parquet at all', /broken\.parquet cannot be read/],
  ['laws.xyz', 'а', /--input-format/],
  ['laws.tar.gz', 'packed', /laws\.tar\.gz is packed in a way, or of a kind, that is not read/],
  ['laws.orc', 'ORC', /laws\.orc is packed in a way, or of a kind, that is not read/],
  ['tar.txt', TAR, /tar\.txt cannot be read: it is a tar archive; unpack it first/],
  ['tar.jsonl.gz', zlib.gzipSync(TAR), /it is a tar archive; unpack it first/],
  ['little.txt', WIDE, /little\.txt cannot be read: it is UTF-16 without its mark; make it UTF-8/],
  ['little.csv', WIDE, /it is UTF-16 without its mark/],
  ['little.md', WIDE, /little\.md is UTF-16 without its mark/],
  ['big.txt', Buffer.from(WIDE).swap16(), /it is UTF-16 without its mark/],
])('%s is refused by name', async (name, content, words) => {
  const source = await stand.write(name, content);
  const job = stand.embed([source, '--to', stand.path(`out-${name}`)]);
  await expect(job).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_INVALID',
    message: expect.stringMatching(words),
  });
});
