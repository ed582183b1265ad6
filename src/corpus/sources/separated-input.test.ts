import { expect, test } from 'bun:test';
import type { ByteInput } from './byte-input.ts';
import { textLinesInput } from './formats.ts';
import { separatedInput } from './separated-input.ts';
import type { RawRecord, SourceInput } from './source.ts';

/**
 * Files as spreadsheets, databases and people write them. A record that is wrong costs itself: each
 * of these ended the reading, or was read as something else, before it stood here.
 */

async function recordsOf(input: SourceInput): Promise<readonly RawRecord[]> {
  const all: RawRecord[] = [];
  for await (const records of input.read(undefined)) all.push(...records);
  return all;
}

/** @param content a piece is one byte, where it is short, so that each border of two is met. */
function inputOf(content: string | Uint8Array): ByteInput {
  const bytes = Buffer.from(content as Uint8Array);
  const step = Math.max(1, bytes.length >> 10);
  return {
    name: 'laws.csv',
    look: async () => ({ bytes: bytes.length, version: '' }),
    length: async () => bytes.length,
    async *open() {
      for (let at = 0; at < bytes.length; at += step) yield bytes.subarray(at, at + step);
    },
  };
}

const read = (content: string, delimiter: ',' | '\t' = ',') =>
  recordsOf(
    separatedInput(inputOf(content), { compression: undefined, delimiter, columns: ['text'] }),
  );

const tooMany = { fields: undefined, fault: 'the record has 3 fields, the header 2' };

test.each<[what: string, content: string, records: readonly object[]]>([
  [
    'a quote in the middle is a letter',
    'id,text\n1,ООО "Луч" и\n',
    [{ id: '1', text: 'ООО "Луч" и' }],
  ],
  [
    'a quote too early is a letter',
    'id,text\n1,"Луч" и\n2,б\n',
    [
      { id: '1', text: '"Луч" и' },
      { id: '2', text: 'б' },
    ],
  ],
  ['a record too long costs itself', 'id,text\n1,а, б\n2,в\n', [tooMany, { id: '2', text: 'в' }]],
  [
    'a record may be short',
    'id,text,court\n1,а\n2,б,суд\n',
    [
      { id: '1', text: 'а' },
      { id: '2', text: 'б', court: 'суд' },
    ],
  ],
  [
    'delimiters at the ends count for nothing',
    'id,text\n1,а,\n2,б,,\n',
    [
      { id: '1', text: 'а' },
      { id: '2', text: 'б' },
    ],
  ],
  ['lines of empty fields are none', 'id,text\n1,а\n,\n  \n\n,\n', [{ id: '1', text: 'а' }]],
  [
    'lines end in two ways',
    'id,text\r\n1,а\n2,"б\nв"\r\n',
    [
      { id: '1', text: 'а' },
      { id: '2', text: 'б\nв' },
    ],
  ],
  ['lines end as on an old Macintosh', 'id,text\r1,а\r', [{ id: '1', text: 'а' }]],
  [
    'a spreadsheet tells what separates',
    'sep=;\r\nid;text\r\n1;а, б\r\n',
    [{ id: '1', text: 'а, б' }],
  ],
  [
    'a comma within a quoted name separates nothing',
    'id;"a, b";text\n1;x;y\n',
    [{ id: '1', 'a, b': 'x', text: 'y' }],
  ],
  ['tabs separate', 'id\ttext\n1\t"а\tб"\n', [{ id: '1', text: 'а\tб' }]],
  ['bars separate', 'id|text\n1|а, б\n', [{ id: '1', text: 'а, б' }]],
  ['blanks around names are none of them', ' id , text \n1,а\n', [{ id: '1', text: 'а' }]],
])('%s', async (_, content, records) => {
  const expected = records.map((one, position) =>
    'fault' in one ? { position, ...one } : { position, fields: one },
  );
  expect(await read(content)).toEqual(expected as unknown as RawRecord[]);
});

test('in a file of tabs a quote is text, and a line with too many fields costs itself', async () => {
  expect(await read('id\ttext\n1\t"а\n2\tб\tв\n3\tг\n', '\t')).toEqual([
    { position: 0, fields: { id: '1', text: '"а' } },
    { position: 1, ...tooMany },
    { position: 2, fields: { id: '3', text: 'г' } },
  ]);
});

// Caught: quotes and all were encoded, and a field of two lines was two records.
test.each<[what: string, fields: readonly string[]]>([
  ['as pandas, polars, DuckDB and Excel write them', ['"ООО ""Луч"" и"', '"а\tб"', '"а\nб"', 'в']],
  ['all of them, as R does', ['"статья"', '"ООО ""Луч"""', '""']],
])('a file of tabs may quote, %s', async (_, fields) => {
  const content = `id\ttext\n${fields.map((field, index) => `${index}\t${field}\n`).join('')}`;
  const texts = fields.map((field) => field.replace(/^"|"$/g, '').replaceAll('""', '"'));
  const records = await read(content, '\t');
  expect(records.map((record) => record.fields?.text)).toEqual(texts);
});

test.each<[what: string, texts: readonly string[]]>([
  ['in the middle', ['"Луч"', 'ООО "Луч" и']],
  ['in front, closed too early', ['"Луч" и', 'в']],
  ['that is never closed', ['"Луч', 'в']],
  ['that another line closes', ['"Он сказал:', 'иду."', 'в "г"']],
  ['after the first part of the file', ['а'.repeat(1 << 18), '"б"']],
])('a file of tabs has quotes %s as text', async (_, texts) => {
  const content = `text\tid\n${texts.map((text, index) => `${text}\t${index}\n`).join('')}`;
  const records = await read(content, '\t');
  expect(records.map((record) => record.fields?.text)).toEqual([...texts]);
});

test('two columns of one name are refused where that one is read', async () => {
  await expect(read('id,text,text\n1,а,б\n')).rejects.toThrow('two of its columns are named text');
  expect(await read('id,id,text\n1,2,а\n')).toHaveLength(1);
});

test('a quote that is not closed is told of by the record that opens it', async () => {
  const rows = Array.from({ length: 300 }, (_, index) => `${index},а\n`).join('');
  const content = `id,text\n1,а\n2,"б\n${rows}`;
  await expect(read(content)).rejects.toThrow('a quote that record 2 opens is not closed');
});

const UTF16 = Buffer.from('\uFEFFid,text\n1,суд\n', 'utf16le');

test.each<[what: string, content: Uint8Array, words: string]>([
  ['UTF-16', UTF16, 'it is UTF-16; make it UTF-8 first: iconv -f utf-16 -t utf-8'],
  ['UTF-16 of the other order', Buffer.from(UTF16).swap16(), 'it is UTF-16'],
  ['gzip', Bun.gzipSync('id,text\n1,a\n'), 'packed by gzip; its name has to end in .gz'],
  ['zstd', Bun.zstdCompressSync('id,text\n1,a\n'), 'packed by zstd'],
  ['a spreadsheet', Buffer.from('PK\x03\x04 and so on'), 'a zip archive or a spreadsheet'],
])('%s is refused by its name, whatever the file is called', async (_, content, words) => {
  const input = inputOf(content);
  const options = { compression: undefined, delimiter: ',' } as const;
  await expect(recordsOf(separatedInput(input, options))).rejects.toThrow(words);
  await expect(recordsOf(textLinesInput(input, undefined))).rejects.toThrow(words);
});

test('a short file is read whole', async () => {
  expect(await recordsOf(textLinesInput(inputOf('суд'), undefined))).toEqual([
    { position: 0, fields: { text: 'суд' } },
  ]);
});

test('a file that is not packed as its name says is told of by that', async () => {
  for (const compression of ['gzip', 'zstd'] as const) {
    const read = recordsOf(textLinesInput(inputOf('no packed bytes\n'), compression));
    await expect(read).rejects.toThrow(`it is not ${compression}, as its name says`);
  }
});
