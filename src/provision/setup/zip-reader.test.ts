import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readZipEntry } from './zip-reader.ts';

const folder = mkdtempSync(join(tmpdir(), 'zip-reader-'));
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

test.each([
  ['stored.txt', 'as it is'],
  ['folder/deflated.txt', LONG_TEXT],
  ['empty', ''],
])('%s comes out as it went in', async (wanted, content) => {
  const bytes = await readZipEntry({ path, isWanted: (name) => name === wanted });
  expect(bytes.toString('utf8')).toBe(content);
});

test('an entry that is not there is an error', async () => {
  const reading = readZipEntry({ path, isWanted: (name) => name === 'nowhere' });
  await expect(reading).rejects.toThrow('does not contain');
});

test('a truncated archive is an error at every length', async () => {
  const whole = await Bun.file(path).bytes();
  const broken = join(folder, 'broken.zip');
  for (let length = 0; length < whole.length - 1; length += 97) {
    await Bun.write(broken, whole.subarray(0, length));
    const reading = readZipEntry({ path: broken, isWanted: () => true });
    await expect(reading).rejects.toThrow();
  }
});
