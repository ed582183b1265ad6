import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { type CorpusStand, rowsOfJsonLines, startCorpusStand } from './corpus-stand.ts';
import { readersPython } from './readers-venv.ts';

/** What people get wrong in their files and flags, and what the command makes of it. */

setDefaultTimeout(60_000);

let stand: CorpusStand;

beforeAll(() => {
  stand = startCorpusStand();
});

afterAll(() => stand.close());

test('ids beyond 2^53 keep their digits, and stay two', async () => {
  const ids = ['9007199254740993', '9007199254740992', '9223372036854775807', '-9007199254740995'];
  const lines = ids.map((id) => `{"id":${id},"text":"статья","score":1e300}\n`);
  const source = await stand.write('large.jsonl', lines.join(''));
  const to = stand.path('large');
  await stand.embed([source, '--to', to, '--format', 'jsonl', '--id', 'id', '--carry', 'score']);
  const text = await Bun.file(`${to}/part-000000.jsonl`).text();
  expect([...text.matchAll(/"id":(-?\d+)/g)].map(([, id]) => id)).toEqual(ids);
  expect((await rowsOfJsonLines(to)).map(({ score }) => score)).toEqual(ids.map(() => 1e300));
});

test('an integer that 64 bits do not hold becomes a string', async () => {
  const source = await stand.write('huge.jsonl', '{"id":92233720368547758080,"text":"a"}\n');
  const to = stand.path('huge');
  await stand.embed([source, '--to', to, '--format', 'jsonl', '--id', 'id']);
  expect((await rowsOfJsonLines(to))[0]?.id).toBe('92233720368547758080');
});

test('a field that no record has is refused, with those that there are', async () => {
  const source = await stand.write(
    'typo.jsonl',
    '{"key":1,"body":"a","title":null,"court":{"name":null}}\n',
  );
  const words = [source, '--to', stand.path('typo')];
  const refused = (more: readonly string[]) => expect(stand.embed([...words, ...more])).rejects;
  const there = 'typo.jsonl. A record has key, body, title, court.name.';
  await refused(['--text', 'bdy']).toThrow(there);
  await refused(['--text', 'body', '--id', 'kay']).toThrow(there);
  await refused(['--text', 'body', '--carry', 'title,titel']).toThrow('--carry titel: not in any');
  expect(await Bun.file(`${stand.path('typo')}/_embed/manifest.json`).exists()).toBe(false);
  // A field whose values are null is there.
  await stand.embed([...words, '--text', 'body', '--id', 'key', '--carry', 'title,court.name']);
});

test('an id that comes again is told of with both records, and each has its row', async () => {
  const ids = [7, 8, 7, null, null, 8, 9, '9', 7];
  const lines = ids.map((id) => `${JSON.stringify({ id, text: 'статья' })}\n`);
  const source = await stand.write('again.jsonl', lines.join(''));
  const to = stand.path('again');
  const words = [source, '--to', to, '--format', 'jsonl', '--id', 'id'];
  await stand.embed([...words, '--part-texts', '8']);
  expect(stand.said).toContain(
    `an id comes again within its part: 7 in records 1 and 3 of ${source} (3 such records)`,
  );
  expect((await rowsOfJsonLines(to)).map(({ id }) => id)).toEqual(
    ids.map((id) => (id === null ? null : String(id))),
  );
});

test('an id that comes again in another file of its part is told of with both files', async () => {
  const first = await stand.write('twice/1.jsonl', '{"id":1,"text":"a"}\n{"id":2,"text":"b"}\n');
  const second = await stand.write('twice/2.jsonl', '{"id":3,"text":"a"}\n{"id":2,"text":"c"}\n');
  await stand.embed([stand.path('twice'), '--to', stand.path('two-files'), '--id', 'id']);
  expect(stand.said).toContain(
    `an id comes again within its part: 2 in record 2 of ${first} and 2 of ${second}`,
  );
});

test('a broken line costs itself, and is named by its byte', async () => {
  const source = await stand.write('broken.jsonl', '{"text":"a"}\n{"text":"b\n{"text":"c"}\n');
  const to = stand.path('broken');
  const { failed } = await stand.embed([source, '--to', to, '--format', 'jsonl']);
  expect(failed).toBe(1);
  const [, row] = await rowsOfJsonLines(to);
  expect(row?.error).toBe('EMB_BODY_MALFORMED: the line is not JSON (from byte 13 on)');
});

test.each([
  ['[{"text":"a"},', 'not JSON: it begins as an array, which --input-format json reads'],
  ['[{"text":"a"}]', 'no JSON object: it begins as an array, which --input-format json reads'],
  ['{"text":"a"},', 'not JSON: a comma ends it'],
  ['{"text":"a","score":NaN}', 'not JSON: it has NaN or Infinity, which JSON has not'],
  ['{"text":"a"}{"text":"b"}', 'not JSON: it seems to have several objects'],
])('a line that is no record says why: %s', async (line, why) => {
  const source = await stand.write('why.jsonl', `${line}\n`);
  const job = stand.embed([source, '--to', stand.path('why')]);
  await expect(job).rejects.toThrow(`the line is ${why} (from byte 0 on)`);
});

test('marked files that were joined cost no record', async () => {
  const line = '\uFEFF{"text":"статья"}\n';
  const source = await stand.write('joined.jsonl', line + line);
  const job = stand.embed([source, '--to', stand.path('joined')]);
  expect(await job).toMatchObject({ texts: 2, failed: 0 });
});

test('standard input and output are refused, with the way out', async () => {
  const to = stand.path('streams');
  expect(() => stand.embed(['-', '--to', to])).toThrow('write it to a file first');
  expect(() => stand.embed(['a.jsonl', '--to', '-'])).toThrow('name a folder');
  expect(() => stand.embed(['a.jsonl', '--to', to, '--dry-run'])).toThrow('--plan counts');
});

test('a file in an older encoding is refused with what converts it', async () => {
  const text = Buffer.from([0xf1, 0xf3, 0xe4]);
  const line = Buffer.concat([Buffer.from('{"text":"'), text, Buffer.from('"}\n')]);
  const table = Buffer.concat([text, Buffer.from(',text\n1,2\n')]);
  const array = Buffer.concat([Buffer.from('["'), text, Buffer.from('"]')]);
  for (const [name, content] of Object.entries({
    jsonl: line,
    txt: text,
    csv: table,
    json: array,
  })) {
    const source = await stand.write(`older.${name}`, content);
    const job = stand.embed([source, '--to', stand.path('older')]);
    await expect(job).rejects.toThrow(/not UTF-8.*; convert it first, for instance: iconv -f/);
  }
});

test('ids of a JSON array, and those within objects, keep their digits too', async () => {
  const ids = ['9007199254740993', '9007199254740992', '18446744073709551615'];
  const records = ids.map((id) => `{"doc":{"id":${id}},"id":${id},"text":"а"}`);
  for (const [name, content] of [
    ['digits.json', `[${records}]`],
    ['digits.jsonl', records.join('\n')],
  ] as const) {
    const source = await stand.write(name, content);
    for (const field of name === 'digits.json' ? ['id'] : ['id', 'doc.id']) {
      const to = stand.path(`${name}-${field}`);
      await stand.embed([source, '--to', to, '--format', 'jsonl', '--id', field]);
      expect((await rowsOfJsonLines(to)).map(({ id }) => id)).toEqual(ids);
    }
  }
});

/** Each of these columns was cut, shifted or mixed up before. */
const TYPED = `import sys, datetime as d, decimal as m, pyarrow as pa, pyarrow.parquet as q
t = d.datetime(2024, 1, 2, 3, 4, 5, 678901)
q.write_table(pa.table({
  'text': ['а', 'б'],
  'u64': pa.array([2**64 - 1, 5], pa.uint64()),
  'wide': pa.array([m.Decimal(2**53 + 1), m.Decimal(-2**53 - 1)], pa.decimal128(38, 0)),
  'money': pa.array([m.Decimal('123456789012345678.05'), m.Decimal('-0.05')], pa.decimal128(30, 2)),
  'utc': pa.array([t, t], pa.timestamp('us', 'UTC')),
  'local': pa.array([t, t], pa.timestamp('ns')),
  'day': [d.date(1969, 12, 31)] * 2,
  'bytes': pa.array([b'\\xff\\xfe', b'ok'], pa.binary()),
  'fixed': pa.array([b'\\x00\\x01', b'\\xff\\xff'], pa.binary(2)),
  'bad': pa.array([b'\\xff a', b'b'], pa.binary()),
}), sys.argv[1])
`;

/** Caught: within others a decimal was a double, and a time of no zone was one of UTC. */
const NESTED = `import sys, datetime as d, decimal as m, pyarrow as pa, pyarrow.parquet as q
money, time = pa.decimal128(30, 2), pa.timestamp('us')
fee, t = m.Decimal('123456789012345678.05'), d.datetime(2024, 1, 2, 3, 4, 5)
q.write_table(pa.table({
  'text': ['а', 'б'],
  'case': pa.array([{'fee': fee, 'paid': [fee, None], 'at': t}, None],
    pa.struct([('fee', money), ('paid', pa.list_(money)), ('at', time)])),
  'fees': pa.array([[{'fee': fee}, None], []], pa.list_(pa.struct([('fee', money)]))),
  'lists': pa.array([[[fee], [], None], None], pa.list_(pa.list_(money))),
  'byName': pa.array([[('а', fee), ('б', None)], None], pa.map_(pa.string(), money)),
}), sys.argv[1])
`;

test('values within others keep every digit, too', async () => {
  const source = stand.path('nested.parquet');
  const { stderr } = Bun.spawnSync([readersPython(), '-c', NESTED, source]);
  expect(stderr.toString()).toBe('');
  const to = stand.path('nested');
  const names = ['case', 'case.fee', 'fees', 'lists', 'byName'];
  await stand.embed([source, '--to', to, '--format', 'jsonl', '--carry', names.join()]);
  const fee = '123456789012345678.05';
  expect(await rowsOfJsonLines(to)).toMatchObject([
    {
      case: { fee, paid: [fee, null], at: '2024-01-02T03:04:05' },
      'case.fee': fee,
      fees: [{ fee }, null],
      lists: [[fee], [], null],
      byName: { а: fee, б: null },
    },
    { case: null, fees: [], lists: null, byName: null },
  ]);
});

/** Caught: each of these was another value, or ended the reading. */
const ODD = `import sys, duckdb, pyarrow as pa, pyarrow.parquet as q
folder = sys.argv[1]
duckdb.sql('''copy (select 'а' as text, '{"id": 9007199254740993}'::json as doc,
  'infinity'::timestamp as ever, 'infinity'::date as day) to '%s/duck.parquet' ''' % folder)
raw = {'raw': b'\\xff\\x00', 'fixed': b'\\x00\\x01', 'text': 'within'}
kinds = pa.struct([('raw', pa.binary()), ('fixed', pa.binary(2)), ('text', pa.string())])
q.write_table(pa.table({'body': ['б'], 'bytes': pa.array([raw], kinds)}), folder + '/odd.parquet')
open(folder + '/empty.parquet', 'wb').close()
`;

test('JSON, bytes within others and times without an end stay what they are', async () => {
  const { stderr } = Bun.spawnSync([readersPython(), '-c', ODD, stand.folder]);
  expect(stderr.toString()).toBe('');
  const rowOf = async (name: string, words: readonly string[]) => {
    const to = stand.path(`row-of-${name}`);
    await stand.embed([stand.path(name), '--to', to, '--format', 'jsonl', ...words]);
    return Bun.file(`${to}/part-000000.jsonl`).text();
  };
  expect(await rowOf('duck.parquet', ['--id', 'doc.id', '--carry', 'doc,ever,day'])).toStartWith(
    '{"id":9007199254740993,"doc":{"id":9007199254740993},"ever":"9223372036854775807","day":"2147483647"',
  );
  expect(await rowOf('odd.parquet', ['--text', 'body', '--carry', 'bytes'])).toContain(
    '"bytes":{"raw":"\\\\xff00","fixed":"\\\\x0001","text":"within"}',
  );
  // A column within another one is not that column.
  const absent = stand.embed([stand.path('odd.parquet'), '--to', stand.path('absent')]);
  await expect(absent).rejects.toThrow('--text text: no text in any of the first records');
  const empty = stand.embed([stand.path('empty.parquet'), '--to', stand.path('empty')]);
  await expect(empty).rejects.toThrow('empty.parquet cannot be read: it is empty');
});

test('columns of Parquet keep every digit, and bytes that are no text stay what they are', async () => {
  const source = stand.path('typed.parquet');
  const { exitCode, stderr } = Bun.spawnSync([readersPython(), '-c', TYPED, source]);
  expect(stderr.toString()).toBe('');
  expect(exitCode).toBe(0);
  const names = ['wide', 'money', 'utc', 'local', 'day', 'bytes', 'fixed'];
  const to = stand.path('typed');
  const lines = ['--format', 'jsonl'];
  await stand.embed([source, '--to', to, ...lines, '--id', 'u64', '--carry', names.join()]);
  const text = await Bun.file(`${to}/part-000000.jsonl`).text();
  const time = '2024-01-02T03:04:05.678901';
  expect(text).toContain(
    `{"id":"18446744073709551615","wide":9007199254740993,"money":"123456789012345678.05",` +
      `"utc":"${time}Z","local":"${time}","day":"1969-12-31","bytes":"\\\\xfffe","fixed":"\\\\x0001"`,
  );
  expect(text).toContain('{"id":"5","wide":-9007199254740993,"money":"-0.05"');
  expect(text).toContain('"bytes":"ok","fixed":"\\\\xffff"');
  const bad = [source, '--to', stand.path('bad'), ...lines, '--text', 'bad'];
  expect(await stand.embed(bad)).toMatchObject({
    failed: 1,
    errors: [{ part: 0, row: 0, error: 'EMB_TEXT_NOT_UNICODE: bad is not UTF-8' }],
  });
});
