import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { S3Client } from 'bun';
import type { ClientClock } from '../../client/cancellation.ts';
import { openS3Bucket } from '../../corpus/stores/s3-bucket.ts';
import { bytesOfFolder, type CorpusStand, jsonLines, startCorpusStand } from './corpus-stand.ts';
import { type FarS3, startFarS3 } from './far-s3.ts';
import { writeMixed } from './small-files.ts';

/**
 * Small objects of a bucket that is far away: a live S3 server behind a proxy that takes its time.
 *
 * Faults that were planted to see these fail: each object asked for at its turn; a look at each; an
 * object that is gone told of before its turn; what is under way waited for at the end of a job; a
 * listing that is not asked for again (it was so before), and one that is after a refusal.
 */

setDefaultTimeout(120_000);

/** Long enough that requests which are sent together are open together. */
const DELAY_MS = 5;

let stand: CorpusStand;
let s3: FarS3;
let client: S3Client;

beforeAll(async () => {
  stand = startCorpusStand();
  s3 = await startFarS3({ bucket: 'archive', delayMs: DELAY_MS });
  stand.environment = s3.environment;
  client = new S3Client({
    bucket: 'archive',
    endpoint: s3.near.AWS_ENDPOINT_URL ?? '',
    accessKeyId: s3.near.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: s3.near.AWS_SECRET_ACCESS_KEY ?? '',
  });
});

beforeEach(() => {
  s3.meets = undefined;
  s3.forget();
});

afterAll(async () => {
  await s3?.stop();
  await stand.close();
});

/** The files that hold vectors. */
async function partsOf(folder: string): Promise<Record<string, string>> {
  const all = Object.entries(await bytesOfFolder(folder));
  return Object.fromEntries(all.filter(([name]) => name.startsWith('part-')));
}

test('small objects of every kind come many at a time, to the bytes that a folder gives', async () => {
  const folder = stand.path('mixed');
  const texts = Array.from({ length: 400 }, (_, index) => ({
    id: `law-${index}`,
    text: `статья ${index}`,
  }));
  await writeMixed(folder, texts);
  const names = await readdir(folder);
  for (const name of names) await client.write(`mixed/${name}`, Bun.file(join(folder, name)));
  const words = ['--id', 'id', '--part-texts', '50'];
  await stand.embed([folder, '--to', stand.path('near'), ...words]);
  const job = ['s3://archive/mixed/', '--to', stand.path('far'), ...words];
  await stand.embed(job);
  expect(await partsOf(stand.path('far'))).toEqual(await partsOf(stand.path('near')));
  // The listing, each to be pinned, each to be encoded; looks are in the listing.
  expect(s3.asked).toEqual({ GET: 1 + 2 * names.length });
  expect(s3.openCountMax).toBeGreaterThan(8);
  expect(s3.openCountMax).toBeLessThanOrEqual(33);
  s3.forget();
  await stand.embed(job);
  expect(s3.asked).toEqual({ GET: 1 });
});

test('small parts go into a bucket some at a time, and a small Parquet file is one request', async () => {
  const texts = Array.from({ length: 60 }, (_, index) => `статья ${index}`);
  const source = await stand.write('laws.jsonl', jsonLines(texts));
  const parts = ['--id', 'id', '--part-texts', '5'];
  await stand.embed([source, '--to', 's3://archive/parquet', ...parts]);
  expect(s3.openCountMax).toBeGreaterThan(1);
  expect(s3.openCountMax).toBeLessThanOrEqual(4);
  // What a job has written is no source of another one where it lies.
  for (let part = 0; part < 12; part++) {
    const name = `part-${String(part).padStart(6, '0')}.parquet`;
    await client.write(`tables/${part}.parquet`, await client.file(`parquet/${name}`).bytes());
  }
  s3.forget();
  const words = ['s3://archive/tables/', '--text', 'id', '--to', stand.path('from-parquet')];
  expect((await stand.embed(words)).texts).toBe(60);
  // Of the first nothing is there yet: its length, its footer, its column; both times.
  expect(s3.asked.HEAD).toBe(2);
  expect(s3.asked.GET).toBeLessThan(1 + 2 * (12 + 4));
});

/** Waits for nothing, and writes down how long it should have. */
function hastyClock(): { clock: ClientClock; waitsMs: number[] } {
  const waitsMs: number[] = [];
  const schedule = (delayMs: number, action: () => void): (() => void) => {
    waitsMs.push(delayMs);
    queueMicrotask(action);
    return () => undefined;
  };
  return { clock: { now: () => 0, schedule }, waitsMs };
}

test.each(['list', 'look', 'read', 'put'] as const)(
  'a bucket that is busy is asked to %s again, and one that refuses is not',
  async (verb) => {
    await client.write('busy/a.txt', 'иск');
    const { clock, waitsMs } = hastyClock();
    const { signal } = new AbortController();
    const { environment } = s3;
    const code = 'CORPUS_SINK_FAILED';
    const told = { patienceMs: 0, say: () => {} };
    const bucket = openS3Bucket({
      ...{ bucket: 'archive', environment, clock, signal, code },
      ...told,
    });
    const ask = (): Promise<unknown> =>
      verb === 'list'
        ? bucket.list('busy/')
        : verb === 'put'
          ? bucket.put('busy/b', 'б')
          : bucket[verb]('busy/a.txt');
    const answers = [busy('SlowDown'), busy(undefined)];
    s3.meets = async () => answers.shift();
    await ask();
    expect(waitsMs).toEqual([600, 1200]);
    s3.meets = async () => busy('SlowDown');
    await expect(ask()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/^s3:\/\/archive\/busy\/.*(503|SlowDown)/),
    });
    expect(waitsMs.length).toBe(6);
    s3.meets = async () =>
      new Response('<Error><Code>AccessDenied</Code></Error>', { status: 403 });
    await expect(ask()).rejects.toThrow(/403|AccessDenied/);
    expect(waitsMs.length).toBe(6);
  },
);

function busy(code: string | undefined): Response {
  const words = code === undefined ? 'busy' : `<Error><Code>${code}</Code></Error>`;
  return new Response(words, { status: 503 });
}

test('an object that is gone ends the job at its turn, and waits for none of those ahead', async () => {
  for (let file = 100; file < 160; file++) {
    await client.write(
      `gone/${file}.txt`,
      [0, 1, 2].map((text) => `иск ${file} ${text}`).join('\n'),
    );
  }
  const to = stand.path('gone');
  const words = ['s3://archive/gone/', '--to', to, '--part-texts', '30', '--format', 'jsonl'];
  const isPinned = (): Promise<boolean> => Bun.file(`${to}/_embed/manifest.json`).exists();
  const held = Promise.withResolvers<undefined>();
  s3.meets = async (_, path) => {
    const file = Number(/(\d+)\.txt$/.exec(path)?.[1] ?? 0);
    if (file < 145 || !(await isPinned())) return undefined;
    // Those after it never answer.
    return file === 145 ? new Response(null, { status: 404 }) : held.promise;
  };
  await expect(stand.embed(words)).rejects.toMatchObject({
    code: 'CORPUS_SOURCE_FAILED',
    message: expect.stringContaining('s3://archive/gone/145.txt'),
  });
  // It is in part 4, which was read while the end of part 3 was encoded.
  expect(Object.keys(await partsOf(to)).length).toBeGreaterThanOrEqual(3);
  held.resolve(undefined);
  s3.meets = undefined;
  const { texts, textsNow } = await stand.embed(words);
  expect(texts).toBe(180);
  expect(textsNow).toBeLessThanOrEqual(90);
});
