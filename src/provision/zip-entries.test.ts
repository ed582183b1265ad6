import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readZipEntries } from './zip-entries.ts';

const folder = mkdtempSync(join(tmpdir(), 'zip-entries-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PHRASE = 'договор аренды ';
const LONG_TEXT = PHRASE.repeat(5000);

/** Python's own zipfile, the library that wheels are made with. */
function writeArchive(path: string): void {
  const script = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as archive:
    archive.writestr('stored.txt', 'as it is', zipfile.ZIP_STORED)
    archive.writestr('folder/', '')
    archive.writestr('folder/deflated.txt', sys.argv[2] * 5000, zipfile.ZIP_DEFLATED)
    archive.writestr('empty', '', zipfile.ZIP_DEFLATED)
    archive.comment = b'a comment with PK in it ' * 40
`;
  const run = Bun.spawnSync(['python3', '-c', script, path, PHRASE]);
  expect(run.stderr.toString()).toBe('');
}

const path = join(folder, 'archive.zip');
writeArchive(path);

const read = (options: Partial<Parameters<typeof readZipEntries>[0]> = {}) =>
  readZipEntries({ path, isWanted: () => true, entryBytesMax: 1e6, ...options });

test('entries come out as they went in, stored or deflated', async () => {
  const entries = await read();
  const texts = [...entries].map(([name, bytes]) => [name, bytes.toString('utf8')]);
  expect(texts).toEqual([
    ['stored.txt', 'as it is'],
    ['folder/', ''],
    ['folder/deflated.txt', LONG_TEXT],
    ['empty', ''],
  ]);
});

test('only those that are wanted are read', async () => {
  const entries = await read({ isWanted: (name) => name === 'stored.txt' });
  expect([...entries.keys()]).toEqual(['stored.txt']);
  expect(await read({ isWanted: () => false })).toEqual(new Map());
});

test('an entry that unpacks to more than the limit is refused', async () => {
  const bytes = Buffer.byteLength(LONG_TEXT);
  await expect(read({ entryBytesMax: bytes - 1 })).rejects.toThrow(`has ${bytes} bytes`);
});

test('a bit that flipped is found by the checksum', async () => {
  const bytes = await Bun.file(path).bytes();
  const at = Buffer.from(bytes).indexOf('as it is');
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  const broken = join(folder, 'flipped.zip');
  await Bun.write(broken, bytes);
  await expect(read({ path: broken })).rejects.toThrow('stored.txt is damaged');
});

test('a truncated archive is an error at every length', async () => {
  const whole = await Bun.file(path).bytes();
  const broken = join(folder, 'broken.zip');
  for (let length = 0; length < whole.length - 1; length += 97) {
    await Bun.write(broken, whole.subarray(0, length));
    await expect(read({ path: broken })).rejects.toThrow('no zip archive, or is damaged');
  }
});
