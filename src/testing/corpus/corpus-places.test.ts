import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { S3Client } from 'bun';
import { type CorpusStand, jsonLines, rowsOfJsonLines, startCorpusStand } from './corpus-stand.ts';
import { type RunningS3, startS3 } from './start-s3.ts';

/**
 * Where a corpus lies and where its vectors go: links, folders within one another, other folders to
 * stand in, files of somebody else. Each test failed before what it holds was mended.
 */

setDefaultTimeout(60_000);

let stand: CorpusStand;

beforeAll(() => {
  stand = startCorpusStand();
});

afterAll(() => stand.close());

const LINES = jsonLines(['аренда', 'иск', 'суд']);
const AS_LINES = ['--format', 'jsonl', '--id', 'id'];

test('a folder that holds the destination is taken up again, and embedded once more elsewhere', async () => {
  await stand.write('year/a.jsonl', LINES);
  const year = stand.path('year');
  for (const source of [year, `${year}/**/*.jsonl`]) {
    const to = stand.path(`year/vectors-${source.length}`);
    for (const _ of ['first', 'again']) {
      expect(await stand.embed([source, ...AS_LINES, '--to', to])).toMatchObject({ texts: 3 });
    }
  }
  // Whoever has the destination for the folder itself.
  for (const _ of ['first', 'again']) {
    expect(await stand.embed([year, ...AS_LINES, '--to', year])).toMatchObject({ texts: 3 });
  }
  // Output that is named by itself is read.
  const named = [`${year}/part-000000.jsonl`, '--text', 'id', '--to', stand.path('named')];
  expect(await stand.embed(named)).toMatchObject({ texts: 3 });
});

test('links to files and folders are read, each file once, and one to nothing is named', async () => {
  await stand.write('blobs/one', LINES);
  await stand.write('elsewhere/b.jsonl', LINES);
  const snapshot = stand.path('snapshot');
  await mkdir(snapshot);
  await symlink('../blobs/one', `${snapshot}/a.jsonl`);
  await symlink('../elsewhere', `${snapshot}/more`);
  await symlink('.', `${stand.path('elsewhere')}/up`);
  const to = stand.path('from-links');
  expect(await stand.embed([snapshot, '--to', to])).toMatchObject({ texts: 6 });
  const glob = [`${snapshot}/*.jsonl`, '--to', stand.path('from-glob')];
  expect(await stand.embed(glob)).toMatchObject({ texts: 3 });
  await symlink('nowhere', `${snapshot}/broken.jsonl`);
  await expect(stand.embed([snapshot, '--to', to])).rejects.toThrow('broken.jsonl cannot be read');
});

test('a file whose name is not UTF-8 is refused with the way out', async () => {
  await stand.write('older/a.jsonl', LINES);
  const folder = Buffer.from(`${stand.path('older')}/`);
  await writeFile(Buffer.concat([folder, Uint8Array.of(0xef, 0xe0), Buffer.from('.jsonl')]), LINES);
  const job = stand.embed([stand.path('older'), '--to', stand.path('from-older')]);
  await expect(job).rejects.toThrow('its name is not UTF-8: rename it, for instance by convmv');
});

test('a file that is named again has its rows once', async () => {
  await stand.write('same/a.jsonl', LINES);
  const names = [stand.path('same'), stand.path('same/a.jsonl'), `${stand.folder}/./same/a.jsonl`];
  const report = await stand.embed([...names, '--to', stand.path('once')]);
  expect(report.texts).toBe(3);
});

test('a job goes on with the same files by another name, and not with others', async () => {
  const to = stand.path('moved');
  await stand.write('here/a.jsonl', LINES);
  await stand.write('there/a.jsonl', LINES);
  await stand.write('other/a.jsonl', LINES.replace('иск', 'акт'));
  await stand.embed([stand.path('here'), ...AS_LINES, '--to', to]);
  expect(await stand.embed([stand.path('there'), ...AS_LINES, '--to', to])).toMatchObject({
    textsNow: 0,
  });
  const other = stand.embed([stand.path('other'), ...AS_LINES, '--to', to]);
  await expect(other).rejects.toThrow(/other\/a\.jsonl was not among the inputs/);
});

test('a destination that is a file, or has parts of nobody knows whom, is refused', async () => {
  const source = await stand.write('plain.jsonl', LINES);
  const file = stand.embed([source, '--to', source]);
  await expect(file).rejects.toThrow('plain.jsonl is a file; name a folder');
  const foreign = stand.path('foreign');
  await stand.write('foreign/part-000000.jsonl', '{"id":1}\n');
  const job = stand.embed([source, ...AS_LINES, '--to', foreign]);
  await expect(job).rejects.toThrow('part-000000 already, but no manifest');
  expect(await rowsOfJsonLines(foreign)).toEqual([{ id: 1 }]);
  expect(await Bun.file(`${foreign}/_embed/manifest.json`).exists()).toBe(false);
});

test('a pipe is refused with the way out', async () => {
  const pipe = stand.path('pipe.jsonl');
  expect(Bun.spawnSync(['mkfifo', pipe]).exitCode).toBe(0);
  const job = stand.embed([pipe, '--to', stand.path('from-pipe')]);
  await expect(job).rejects.toThrow('is a pipe or a device');
});

test('a file for a watcher that cannot be written is refused at the start', async () => {
  const source = await stand.write('watched.jsonl', LINES);
  const words = [source, '--to', stand.path('watched'), '--progress-file'];
  for (const file of [stand.path('no/such/state.json'), stand.folder]) {
    await expect(stand.embed([...words, file])).rejects.toThrow(`--progress-file ${file} cannot`);
  }
});

test('files of a folder that are not read are told of by the ends of their names', async () => {
  const packed = await stand.write('mixed/b.jsonl.bz2', 'packed');
  await stand.write('mixed/a.jsonl', LINES);
  await stand.write('mixed/_SUCCESS', '');
  await stand.write('mixed/.a.jsonl.crc', 'crc');
  await mkdir(stand.path('mixed/v1.2'));
  await stand.embed([stand.path('mixed'), '--to', stand.path('told'), ...AS_LINES]);
  const told = `${stand.path('mixed')}: files ending in .bz2 (${packed}) are left out: unpack them`;
  expect(stand.said).toContain(told);
});

test('what Spark has begun is no data, in a folder and by a glob', async () => {
  await stand.write('spark/part-0.jsonl', LINES);
  await stand.write('spark/_temporary/0/task/part-1.jsonl', LINES);
  for (const [index, source] of ['spark', 'spark/**/*.jsonl'].entries()) {
    const words = [stand.path(source), '--to', stand.path(`begun-${index}`), ...AS_LINES];
    expect(await stand.embed(words)).toMatchObject({ texts: 3 });
  }
});

test('fields that stand in the path of a file are carried, as Spark and DuckDB write them', async () => {
  for (const [folder, content] of [
    ['year=2024/court=Суд %2F а', '{"text":"иск"}\n'],
    ['year=01/court=__HIVE_DEFAULT_PARTITION__', '{"text":"срок"}\n'],
    ['year=1/court=б', '{"text":"суд","court":"свой"}\n{"text":\n'],
  ] as const) {
    await stand.write(`hive/${folder}/part-0.jsonl`, content);
  }
  const to = stand.path('from-hive');
  const words = [stand.path('hive'), '--to', to, '--format', 'jsonl'];
  await stand.embed([...words, '--carry', 'year,court']);
  expect((await rowsOfJsonLines(to)).map(({ year, court }) => [year, court])).toEqual([
    ['01', null],
    ['1', 'свой'],
    [null, null],
    ['2024', 'Суд / а'],
  ]);
});

test.each([
  ['Delta Lake', '_delta_log/00000000000000000000.json'],
  ['Iceberg', 'metadata/v1.metadata.json'],
  ['Hudi', '.hoodie/hoodie.properties'],
])('a folder of %s, whose files hold deleted rows, is read by a glob alone', async (kind, mark) => {
  await stand.write(`${kind}/part-0.jsonl`, LINES);
  await stand.write(`${kind}/${mark}`, '{}');
  const to = ['--to', stand.path(`out-${kind}`), ...AS_LINES];
  const refused = `${kind} is a table of ${kind}, whose files also hold rows that were deleted`;
  await expect(stand.embed([stand.path(kind), ...to])).rejects.toThrow(refused);
  const all = await stand.embed([stand.path(`${kind}/**/*.jsonl`), ...to]);
  expect(all).toMatchObject({ texts: 3 });
});

test('a bucket too: its own output is no source, and a key may have letters of a glob', async () => {
  const s3: RunningS3 = await startS3('archive');
  try {
    stand.environment = s3.environment;
    const client = new S3Client({
      bucket: 'archive',
      endpoint: s3.environment.AWS_ENDPOINT_URL ?? '',
      accessKeyId: 'tester',
      secretAccessKey: 'secret',
    });
    await client.write('laws/[2024] a+b %20&.jsonl', LINES);
    for (const _ of ['first', 'again']) {
      const words = ['s3://archive/laws/', ...AS_LINES, '--to', 's3://archive/laws/vectors'];
      expect(await stand.embed(words)).toMatchObject({ texts: 3 });
    }
    // Consoles make a folder so.
    await client.write('laws/', '');
    const prefix = ['s3://archive/laws/', ...AS_LINES, '--to', stand.path('from-folder')];
    expect(await stand.embed(prefix)).toMatchObject({ texts: 3 });
    await client.write('laws/_delta_log/0.json', '{}');
    await expect(stand.embed(prefix)).rejects.toThrow('is a table of Delta Lake');
    const named = ['s3://archive/laws/[2024] a+b %20&.jsonl', '--to', stand.path('from-key')];
    expect(await stand.embed(named)).toMatchObject({ texts: 3 });
  } finally {
    await s3.stop();
  }
});
