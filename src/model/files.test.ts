import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ModelFileError,
  removeStalePartials,
  sha256OfFile,
  verifyFile,
  writeFileAtomic,
} from './files.ts';

const folder = mkdtempSync(join(tmpdir(), 'model-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let fileCount = 0;
function freshPath(): string {
  fileCount++;
  return join(folder, String(fileCount), 'deep', 'file.bin');
}

const ABC = new TextEncoder().encode('abc');
// From FIPS 180-2, appendix B.1.
const ABC_SHA256 = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';

async function failureOf(promise: Promise<unknown>): Promise<ModelFileError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ModelFileError);
  return error as ModelFileError;
}

test('a file is written whole, folders are made, and its facts are told', async () => {
  const path = freshPath();
  const facts = await writeFileAtomic(path, ABC);
  expect(facts).toEqual({ bytes: 3, sha256: ABC_SHA256 });
  expect(await Bun.file(path).text()).toBe('abc');
  expect(await sha256OfFile(path)).toBe(ABC_SHA256);
  expect(readdirSync(join(path, '..'))).toEqual(['file.bin']);
});

test('parts are joined in order, made one at a time or asynchronously', async () => {
  const letters = ['a', 'b', 'c'].map((letter) => new TextEncoder().encode(letter));
  async function* later() {
    yield* letters;
  }
  for (const parts of [letters, later()]) {
    expect((await writeFileAtomic(freshPath(), parts)).sha256).toBe(ABC_SHA256);
  }
});

test('an existing file is replaced', async () => {
  const path = freshPath();
  await writeFileAtomic(path, new Uint8Array(1000));
  await writeFileAtomic(path, ABC);
  expect(await Bun.file(path).text()).toBe('abc');
});

test.each([
  ['MODEL_FILE_HASH', { bytes: 3, sha256: '0'.repeat(64) }],
  ['MODEL_FILE_SIZE', { bytes: 4, sha256: ABC_SHA256 }],
] as const)('%s: what is not expected never gets its final name', async (code, expected) => {
  const path = freshPath();
  await writeFileAtomic(path, new TextEncoder().encode('old'));
  const error = await failureOf(writeFileAtomic(path, ABC, expected));
  expect(error.code).toBe(code);
  expect(await Bun.file(path).text()).toBe('old');
  expect(readdirSync(join(path, '..'))).toEqual(['file.bin']);
});

test.each([
  ['ENOSPC', 'MODEL_DISK_FULL', 'disk or quota is full'],
  ['EDQUOT', 'MODEL_DISK_FULL', 'Free some space'],
  ['EROFS', 'MODEL_READ_ONLY', 'read-only file system'],
  ['EACCES', 'MODEL_READ_ONLY', 'writable'],
  ['EIO', 'MODEL_FILE_IO', 'cannot write'],
] as const)('%s midway is said in words, and nothing is left', async (system, code, words) => {
  const path = freshPath();
  function* breaking() {
    yield ABC;
    throw Object.assign(new Error(`${system}: write`), { code: system });
  }
  const error = await failureOf(writeFileAtomic(path, breaking()));
  expect(error.code).toBe(code);
  expect(error.message).toContain(words);
  expect(error.message).toContain(path);
  expect(error.message).not.toContain('\n');
  expect(readdirSync(join(path, '..'))).toEqual([]);
});

test('a folder that is a file is an error, not a crash', async () => {
  const path = freshPath();
  await writeFileAtomic(path, ABC);
  expect((await failureOf(writeFileAtomic(join(path, 'inside'), ABC))).code).toBe('MODEL_FILE_IO');
});

test('verifyFile accepts the file that is meant', async () => {
  const path = freshPath();
  await writeFileAtomic(path, ABC);
  await verifyFile({ path, bytes: 3, sha256: ABC_SHA256 });
});

test.each([
  ['a missing file', null, 'MODEL_FILE_MISSING'],
  ['a truncated file', 'ab', 'MODEL_FILE_SIZE'],
  ['one flipped bit', 'abb', 'MODEL_FILE_HASH'],
] as const)('verifyFile refuses %s', async (_what, content, code) => {
  const path = freshPath();
  if (content !== null) await writeFileAtomic(path, new TextEncoder().encode(content));
  const error = await failureOf(verifyFile({ path, bytes: 3, sha256: ABC_SHA256 }));
  expect(error.code).toBe(code);
  expect(error.message).toContain(path);
});

test('leftovers of dead processes go, those of a living one stay', async () => {
  const place = mkdtempSync(join(folder, 'partials-'));
  const child = Bun.spawn(['true']);
  await child.exited;
  const living = `a.bin.${process.pid}.partial`;
  const dead = `b.bin.${child.pid}.partial`;
  for (const name of [living, dead, 'model.onnx', 'download.partial']) {
    writeFileSync(join(place, name), 'x');
  }
  const deadFolder = `c.${child.pid}.partial`;
  await writeFileAtomic(join(place, deadFolder, 'model.onnx'), ABC);
  expect((await removeStalePartials(place)).sort()).toEqual([dead, deadFolder]);
  expect(readdirSync(place).sort()).toEqual([living, 'download.partial', 'model.onnx']);
  expect(await removeStalePartials(join(place, 'nowhere'))).toEqual([]);
});

test('a process killed while it writes leaves the old file as it was', async () => {
  const path = freshPath();
  await writeFileAtomic(path, ABC);
  const script = `
    import { writeFileAtomic } from ${JSON.stringify(join(import.meta.dir, 'files.ts'))};
    async function* endless() {
      for (;;) {
        yield new Uint8Array(65536);
        console.log('written');
        await Bun.sleep(1);
      }
    }
    await writeFileAtomic(${JSON.stringify(path)}, endless());
  `;
  const child = Bun.spawn([process.execPath, '-e', script], { stdout: 'pipe', stderr: 'ignore' });
  await child.stdout.getReader().read();
  child.kill('SIGKILL');
  await child.exited;
  expect(await Bun.file(path).text()).toBe('abc');
  expect(await removeStalePartials(join(path, '..'))).toEqual([`file.bin.${child.pid}.partial`]);
});
