import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** What went wrong with a model's file; the message says it in one line, with the way out. */
export type ModelFileCode =
  | 'MODEL_FILE_MISSING'
  | 'MODEL_FILE_SIZE'
  | 'MODEL_FILE_HASH'
  | 'MODEL_DISK_FULL'
  | 'MODEL_READ_ONLY'
  | 'MODEL_FILE_IO';

/**
 * A model's file that is missing, damaged or cannot be written. Raised at set-up and at boot, never
 * for a caller.
 */
export class ModelFileError extends Error {
  override readonly name = 'ModelFileError';
  readonly code: ModelFileCode;

  constructor(code: ModelFileCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

/** What a file must be: its length in bytes and its sha256 as 64 lower-case hex digits. */
export interface FileFacts {
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Bytes to write: one block, or blocks made one at a time so that a large file never has to lie
 * whole in memory.
 */
export type FileParts = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/**
 * Writes a file so that its final name only ever holds all of it: into a neighbour with a temporary
 * name, to the disk, and only then under the final name. A crash leaves a `.partial` file, which
 * `removeStalePartials` clears.
 *
 * @param path where to; missing folders are made, an existing file is replaced.
 * @param parts borrowed until the promise settles.
 * @param expected when given, a file that differs is removed and never gets its final name.
 * @returns what was written.
 * @throws ModelFileError `MODEL_FILE_SIZE`, `MODEL_FILE_HASH`, `MODEL_DISK_FULL`,
 *   `MODEL_READ_ONLY`, `MODEL_FILE_IO`.
 */
export async function writeFileAtomic(
  path: string,
  parts: FileParts,
  expected?: FileFacts,
): Promise<FileFacts> {
  // The process id keeps two set-ups that run at once from writing into each other's file.
  const partialPath = `${path}.${process.pid}.partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const facts = await writeAndSync(partialPath, parts);
    if (expected !== undefined) compareFacts({ path, found: facts, expected });
    await rename(partialPath, path);
    await syncFolder(dirname(path));
    return facts;
  } catch (error) {
    await rm(partialPath, { force: true }).catch(() => {});
    throw toModelFileError({ action: 'write', path, error });
  }
}

/**
 * Hashes a file in pieces; memory stays at a few hundred kilobytes whatever its size.
 *
 * @returns 64 lower-case hex digits.
 * @throws ModelFileError `MODEL_FILE_MISSING`, `MODEL_FILE_IO`.
 */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const piece of createReadStream(path, { highWaterMark: READ_BYTES })) {
      hash.update(piece as Uint8Array);
    }
  } catch (error) {
    throw toModelFileError({ action: 'read', path, error });
  }
  return hash.digest('hex');
}

/**
 * Makes sure that the file is the one that is meant. The length is compared first, so that a
 * truncated file of gigabytes is refused without being read.
 *
 * @throws ModelFileError `MODEL_FILE_MISSING`, `MODEL_FILE_SIZE`, `MODEL_FILE_HASH`,
 *   `MODEL_FILE_IO`.
 */
export async function verifyFile(options: { readonly path: string } & FileFacts): Promise<void> {
  const { path, bytes, sha256 } = options;
  let foundBytes: number;
  try {
    foundBytes = (await stat(path)).size;
  } catch (error) {
    throw toModelFileError({ action: 'read', path, error });
  }
  compareBytes({ path, foundBytes, expectedBytes: bytes });
  compareFacts({
    path,
    found: { bytes: foundBytes, sha256: await sha256OfFile(path) },
    expected: { bytes, sha256 },
  });
}

/**
 * Removes what killed set-ups left in `folder`: `.partial` files and folders whose process is no
 * longer alive. A folder that does not exist has none.
 *
 * @returns the names of what was removed.
 */
export async function removeStalePartials(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [] as string[]);
  const stale = names.filter((name) => {
    const writer = /\.(\d+)\.partial$/.exec(name)?.[1];
    return writer !== undefined && !isAlive(Number(writer));
  });
  await Promise.all(stale.map((name) => rm(join(folder, name), { recursive: true, force: true })));
  return stale;
}

// One read of this many bytes; larger ones did not make hashing faster.
const READ_BYTES = 256 * 1024;

async function writeAndSync(partialPath: string, parts: FileParts): Promise<FileFacts> {
  const hash = createHash('sha256');
  let bytes = 0;
  const file = await open(partialPath, 'w');
  try {
    for await (const part of parts instanceof Uint8Array ? [parts] : parts) {
      await writeFully(file, part, bytes);
      hash.update(part);
      bytes += part.byteLength;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** A write may take fewer bytes than it was given, when the disk is nearly full for instance. */
export async function writeFully(file: FileHandle, part: Uint8Array, at: number): Promise<void> {
  for (let offset = 0; offset < part.byteLength; ) {
    const length = part.byteLength - offset;
    const { bytesWritten } = await file.write(part, offset, length, at + offset);
    offset += bytesWritten;
  }
}

/**
 * After a power cut, a rename counts only once its folder has reached the disk. Not every file
 * system can do that.
 */
export async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    await handle.sync().finally(() => handle.close());
  } catch {
    // The file itself is safe: at worst its old state comes back, and set-up runs again.
  }
}

function compareFacts(options: { path: string; found: FileFacts; expected: FileFacts }): void {
  const { path, found, expected } = options;
  compareBytes({ path, foundBytes: found.bytes, expectedBytes: expected.bytes });
  if (found.sha256 === expected.sha256) return;
  throw new ModelFileError(
    'MODEL_FILE_HASH',
    `${basename(path)} has sha256 ${found.sha256}, expected ${expected.sha256}: ` +
      `it is damaged or another version. Delete ${path} and run the set-up again.`,
  );
}

function compareBytes(options: { path: string; foundBytes: number; expectedBytes: number }): void {
  const { path, foundBytes, expectedBytes } = options;
  if (foundBytes === expectedBytes) return;
  throw new ModelFileError(
    'MODEL_FILE_SIZE',
    `${basename(path)} has ${foundBytes} bytes, expected ${expectedBytes}: ` +
      `it is incomplete or another version. Delete ${path} and run the set-up again.`,
  );
}

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    // Someone else's process is alive too.
    return systemCodeOf(error) === 'EPERM';
  }
}

function toModelFileError(options: { action: string; path: string; error: unknown }): Error {
  const { action, path, error } = options;
  if (error instanceof ModelFileError) return error;
  switch (systemCodeOf(error)) {
    case 'ENOENT':
      return new ModelFileError(
        'MODEL_FILE_MISSING',
        `${path} does not exist. Run the set-up: ./run.sh`,
        error,
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new ModelFileError(
        'MODEL_DISK_FULL',
        `cannot ${action} ${path}: the disk or quota is full. Free some space and run it again.`,
        error,
      );
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      return new ModelFileError(
        'MODEL_READ_ONLY',
        `cannot ${action} ${path}: no permission, or a read-only file system. ` +
          `Make ${dirname(path)} writable for this user and run it again.`,
        error,
      );
    default:
      return new ModelFileError(
        'MODEL_FILE_IO',
        `cannot ${action} ${path}: ${error instanceof Error ? error.message : String(error)}`,
        error,
      );
  }
}

function systemCodeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
