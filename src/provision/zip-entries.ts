import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { demand, ProvisionError } from './provision-error.ts';

/**
 * Reads entries of a zip archive: a wheel is one, and so is what `torch.save` writes. Only their
 * own bytes are read, so an archive of any size costs the memory of those entries.
 *
 * @param isWanted says by name which entries.
 * @param entryBytesMax a wanted entry that unpacks to more is refused.
 * @returns their bytes by name; owned by the caller. Each has the checksum that the archive states.
 * @throws ProvisionError when the file is no zip archive, or is damaged.
 */
export async function readZipEntries(options: {
  readonly path: string;
  readonly isWanted: (name: string) => boolean;
  readonly entryBytesMax: number;
}): Promise<Map<string, Buffer>> {
  const { path, isWanted, entryBytesMax } = options;
  const found = new Map<string, Buffer>();
  const archive = await openPromise(path, { autoClose: false }).catch((error) => fail(path, error));
  try {
    for await (const entry of archive.eachEntry()) {
      if (!isWanted(entry.fileName)) continue;
      const { fileName, uncompressedSize } = entry;
      demand(uncompressedSize <= entryBytesMax, `${fileName} has ${uncompressedSize} bytes`);
      found.set(fileName, await readEntry(archive, entry));
    }
  } catch (error) {
    fail(path, error);
  } finally {
    archive.close();
  }
  return found;
}

/** The library checks an entry's length, and leaves its checksum to us. */
async function readEntry(archive: ZipFile, entry: Entry): Promise<Buffer> {
  const bytes = Buffer.alloc(entry.uncompressedSize);
  let at = 0;
  for await (const piece of await archive.openReadStreamPromise(entry)) {
    at += (piece as Buffer).copy(bytes, at);
  }
  demand(
    at === bytes.length && Bun.hash.crc32(bytes) === entry.crc32,
    `${entry.fileName} is damaged: its checksum does not match`,
  );
  return bytes;
}

function fail(path: string, error: unknown): never {
  const reason = error instanceof Error ? error.message : String(error);
  throw new ProvisionError(`${path} is no zip archive, or is damaged: ${reason}.`, {
    cause: error,
  });
}
