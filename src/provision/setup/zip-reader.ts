import { open } from 'node:fs/promises';
import { inflateRawSync } from 'node:zlib';

type FileHandle = Awaited<ReturnType<typeof open>>;

/**
 * Reads one entry of a zip archive (a wheel is one), stored or deflated. Only its own bytes are
 * read, so an archive of any size costs the memory of that entry.
 *
 * @param isWanted says which entry; the first that fits is taken.
 * @returns the entry's bytes; owned by the caller. Their hash is the caller's to check: the
 *   archive's CRC is not.
 * @throws Error when the file is no zip archive, or has no such entry.
 */
export async function readZipEntry(options: {
  readonly path: string;
  readonly isWanted: (name: string) => boolean;
}): Promise<Buffer> {
  const { path, isWanted } = options;
  const file = await open(path, 'r');
  try {
    const entry = (await readDirectory(file, path)).find(({ name }) => isWanted(name));
    if (entry === undefined) throw new Error(`${path} does not contain the expected file`);
    // Name and extra field come again before the data, and the extra field may differ in length
    // from the directory's.
    const header = await readAt(file, { offset: entry.offset, bytes: LOCAL_HEADER_BYTES });
    const nameAndExtraBytes = header.readUInt16LE(26) + header.readUInt16LE(28);
    const offset = entry.offset + LOCAL_HEADER_BYTES + nameAndExtraBytes;
    const data = await readAt(file, { offset, bytes: entry.compressedBytes });
    return entry.method === STORED ? data : inflateRawSync(data);
  } finally {
    await file.close();
  }
}

interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly compressedBytes: number;
  readonly offset: number;
}

// From the zip specification (APPNOTE 6.3): signatures, fixed header lengths, the longest comment,
// compression methods.
const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const COMMENT_BYTES_MAX = 0xffff;
const DIRECTORY_HEADER_BYTES = 46;
const LOCAL_HEADER_BYTES = 30;
const STORED = 0;

async function readDirectory(file: FileHandle, path: string): Promise<ZipEntry[]> {
  const archiveBytes = (await file.stat()).size;
  const tailBytes = Math.min(archiveBytes, END_BYTES + COMMENT_BYTES_MAX);
  const tail = await readAt(file, { offset: archiveBytes - tailBytes, bytes: tailBytes });
  let end = tail.length - END_BYTES;
  while (end >= 0 && !isEndRecord(tail, end)) end--;
  if (end < 0) throw new Error(`${path} is no zip archive, or is truncated`);
  const directory = await readAt(file, {
    offset: tail.readUInt32LE(end + 16),
    bytes: tail.readUInt32LE(end + 12),
  });
  const entries: ZipEntry[] = [];
  for (let at = 0, left = tail.readUInt16LE(end + 10); left > 0; left--) {
    const nameBytes = directory.readUInt16LE(at + 28);
    entries.push({
      name: directory.toString(
        'utf8',
        at + DIRECTORY_HEADER_BYTES,
        at + DIRECTORY_HEADER_BYTES + nameBytes,
      ),
      method: directory.readUInt16LE(at + 10),
      compressedBytes: directory.readUInt32LE(at + 20),
      offset: directory.readUInt32LE(at + 42),
    });
    const extraAndCommentBytes = directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    at += DIRECTORY_HEADER_BYTES + nameBytes + extraAndCommentBytes;
  }
  return entries;
}

/**
 * The record that ends the archive: its signature, and a comment that reaches exactly to the end of
 * the file.
 */
function isEndRecord(tail: Buffer, at: number): boolean {
  const commentBytes = tail.length - at - END_BYTES;
  return tail.readUInt32LE(at) === END_SIGNATURE && tail.readUInt16LE(at + 20) === commentBytes;
}

async function readAt(
  file: FileHandle,
  range: { readonly offset: number; readonly bytes: number },
): Promise<Buffer> {
  const buffer = Buffer.alloc(range.bytes);
  for (let done = 0; done < range.bytes; ) {
    const { bytesRead } = await file.read(buffer, done, range.bytes - done, range.offset + done);
    if (bytesRead === 0) throw new Error('a zip archive ends before its directory says');
    done += bytesRead;
  }
  return buffer;
}
