import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';

/**
 * Bytes are gathered in a block of this size before they go to the system. A block of whole pages
 * begins at one, as writing past the cache wants it.
 */
const BLOCK_BYTES = 1 << 20;

/** Blocks of files that are done, for the next ones: fresh memory costs as much as a copy. */
const spareBlocks: Uint8Array<ArrayBuffer>[] = [];
const SPARE_BLOCKS_MAX = 8;

/**
 * What file systems say that write through the cache alone; there is no such flag on macOS. Others
 * take the flag and refuse the first block.
 */
const NO_DIRECT_WRITES: ReadonlySet<unknown> = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP']);

/**
 * A file that nobody else sees yet. What is appended is copied into a block; while that is written,
 * the next one fills.
 *
 * Whole blocks go past the system's cache where it can be done. A corpus of vectors would push
 * everything else out of it, the model's file included. And each page of the cache is memory that
 * the system has to find first: 2.3 to 4.4 µs of a processor for a row of 4 kB over 800 MB, 0.3
 * past the cache. Of a file of 40 MB, whose pages were in use a moment before, nothing shows.
 */
export class StagedFile {
  readonly path: string;
  #file: FileHandle;
  /** Whether writes go past the cache. */
  #isDirect: boolean;
  #block = takeBlock();
  #blockLength = 0;
  /** Bytes that were handed to the system. */
  #written = 0;
  /** The write of the last full block, and its block. */
  #writing: Promise<void> = Promise.resolve();
  #other: Uint8Array<ArrayBuffer> | undefined;

  private constructor(path: string, file: FileHandle, isDirect: boolean) {
    this.path = path;
    this.#file = file;
    this.#isDirect = isDirect;
  }

  /**
   * Makes an empty file, in place of what may lie there from a run that was killed.
   *
   * @param options.isReadSoon it is read again right away, so it belongs in the system's cache.
   */
  static async create(path: string, options?: { isReadSoon: boolean }): Promise<StagedFile> {
    const direct = options?.isReadSoon === true ? undefined : await openDirect(path);
    return new StagedFile(path, direct ?? (await open(path, 'w')), direct !== undefined);
  }

  /** Bytes so far. */
  get length(): number {
    return this.#written + this.#blockLength;
  }

  /** @param pieces borrowed until the promise settles. */
  async append(...pieces: readonly Uint8Array[]): Promise<void> {
    for (const piece of pieces) {
      for (let from = 0; from < piece.byteLength; ) {
        const count = Math.min(piece.byteLength - from, BLOCK_BYTES - this.#blockLength);
        const isWhole = count === piece.byteLength;
        const some = isWhole ? piece : piece.subarray(from, from + count);
        this.#block.set(some, this.#blockLength);
        this.#blockLength += count;
        from += count;
        if (this.#blockLength === BLOCK_BYTES) await this.#beginWrite();
      }
    }
  }

  /** Writes over the start of the file; nothing is appended after that. */
  async overwriteStart(bytes: Uint8Array): Promise<void> {
    await this.#writeRest();
    await this.#writeFully(bytes, 0);
  }

  /** Everything to the disk; nothing can be written any more. */
  async finish(): Promise<void> {
    await this.#writeRest();
    await this.#file.sync();
    await this.#file.close();
    this.#giveBlocks();
  }

  /** Removes the file, whatever its state. Never throws. */
  async remove(): Promise<void> {
    await this.#writing.catch(() => undefined);
    await this.#file.close().catch(() => undefined);
    await rm(this.path, { force: true }).catch(() => undefined);
    this.#giveBlocks();
  }

  /** Hands on the full block when the one before is written, and goes on in that one's place. */
  async #beginWrite(): Promise<void> {
    await this.#writing;
    const full = this.#block;
    this.#writing = this.#writeFully(full, this.#written);
    // Whoever waits next is told; until then nobody does.
    this.#writing.catch(() => undefined);
    this.#written += BLOCK_BYTES;
    this.#block = this.#other ?? takeBlock();
    this.#other = full;
    this.#blockLength = 0;
  }

  /** Writes the block that is not full. */
  async #writeRest(): Promise<void> {
    await this.#writing;
    if (this.#isDirect) await this.#throughCache();
    const length = this.#blockLength;
    this.#blockLength = 0;
    await this.#writeFully(this.#block.subarray(0, length), this.#written);
    this.#written += length;
  }

  /** Anything but whole blocks has to go this way. */
  async #throughCache(): Promise<void> {
    const direct = this.#file;
    this.#file = await open(this.path, 'r+');
    this.#isDirect = false;
    await direct.close();
  }

  async #writeFully(bytes: Uint8Array, position: number): Promise<void> {
    // A write may take fewer bytes than it was given, when the disk is nearly full for instance.
    for (let offset = 0; offset < bytes.byteLength; ) {
      const length = bytes.byteLength - offset;
      try {
        const { bytesWritten } = await this.#file.write(bytes, offset, length, position + offset);
        offset += bytesWritten;
      } catch (error) {
        // Also where a short write has left the place between two pages.
        if (!this.#isDirect || !NO_DIRECT_WRITES.has(codeOf(error))) throw error;
        await this.#throughCache();
      }
    }
  }

  #giveBlocks(): void {
    for (const block of [this.#block, this.#other]) {
      const isWhole = block?.byteLength === BLOCK_BYTES;
      if (isWhole && spareBlocks.length < SPARE_BLOCKS_MAX) spareBlocks.push(block);
    }
    this.#block = new Uint8Array();
    this.#other = undefined;
  }
}

function takeBlock(): Uint8Array<ArrayBuffer> {
  return spareBlocks.pop() ?? new Uint8Array(BLOCK_BYTES);
}

/** @returns undefined where the file system does not take such files. */
async function openDirect(path: string): Promise<FileHandle | undefined> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_DIRECT } = constants;
  // Undefined on macOS, whatever its type says.
  if (!O_DIRECT) return undefined;
  try {
    return await open(path, O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT, 0o666);
  } catch (error) {
    if (NO_DIRECT_WRITES.has(codeOf(error))) return undefined;
    throw error;
  }
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown }).code;
}
