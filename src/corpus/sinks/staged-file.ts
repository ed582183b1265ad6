import { type FileHandle, open, rm } from 'node:fs/promises';

/** Bytes are gathered in a block of this size before they go to the system. */
const BLOCK_BYTES = 1 << 20;

/** Blocks of files that are done, for the next ones: fresh memory costs as much as a copy. */
const spareBlocks: Uint8Array<ArrayBuffer>[] = [];
const SPARE_BLOCKS_MAX = 8;

/**
 * A file that nobody else sees yet. What is appended is copied into a block; while that is written,
 * the next one fills.
 *
 * Writes go through the system's cache. Past it (O_DIRECT), a row of 4 kB took as long: 3.8 µs
 * against 3.6, 2.2 of a processor against 2.0, medians of five.
 */
export class StagedFile {
  readonly path: string;
  readonly #file: FileHandle;
  #block = takeBlock();
  #blockLength = 0;
  /** Bytes that were handed to the system. */
  #written = 0;
  /** The write of the last full block, and its block. */
  #writing: Promise<void> = Promise.resolve();
  #other: Uint8Array<ArrayBuffer> | undefined;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** Makes an empty file, in place of what may lie there from a run that was killed. */
  static async create(path: string): Promise<StagedFile> {
    return new StagedFile(path, await open(path, 'w'));
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
    const length = this.#blockLength;
    this.#blockLength = 0;
    await this.#writeFully(this.#block.subarray(0, length), this.#written);
    this.#written += length;
  }

  async #writeFully(bytes: Uint8Array, position: number): Promise<void> {
    // A write may take fewer bytes than it was given, when the disk is nearly full for instance.
    for (let offset = 0; offset < bytes.byteLength; ) {
      const length = bytes.byteLength - offset;
      const { bytesWritten } = await this.#file.write(bytes, offset, length, position + offset);
      offset += bytesWritten;
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
