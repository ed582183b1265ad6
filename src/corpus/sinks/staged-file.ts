import { type FileHandle, open, rm } from 'node:fs/promises';

/** Bytes are gathered in a block of this size before they go to the system. */
const BLOCK_BYTES = 1 << 20;

/** A file that nobody else sees yet. What is appended is copied into a block that is used again. */
export class StagedFile {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #block = new Uint8Array(BLOCK_BYTES);
  #blockLength = 0;
  /** Bytes that are in the file. */
  #written = 0;

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
      if (this.#blockLength + piece.byteLength > BLOCK_BYTES) await this.#flush();
      if (piece.byteLength > BLOCK_BYTES) {
        await this.#writeFully(piece, this.#written);
        this.#written += piece.byteLength;
      } else {
        this.#block.set(piece, this.#blockLength);
        this.#blockLength += piece.byteLength;
      }
    }
  }

  /** Writes over the start of the file. */
  async overwriteStart(bytes: Uint8Array): Promise<void> {
    await this.#flush();
    await this.#writeFully(bytes, 0);
  }

  /** Everything to the disk; nothing can be written any more. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#file.sync();
    await this.#file.close();
  }

  /** Removes the file, whatever its state. Never throws. */
  async remove(): Promise<void> {
    await this.#file.close().catch(() => undefined);
    await rm(this.path, { force: true }).catch(() => undefined);
  }

  async #flush(): Promise<void> {
    const length = this.#blockLength;
    if (length === 0) return;
    await this.#writeFully(this.#block.subarray(0, length), this.#written);
    this.#written += length;
    this.#blockLength = 0;
  }

  async #writeFully(bytes: Uint8Array, position: number): Promise<void> {
    // A write may take fewer bytes than it was given, when the disk is nearly full for instance.
    for (let offset = 0; offset < bytes.byteLength; ) {
      const length = bytes.byteLength - offset;
      const at = position + offset;
      offset += (await this.#file.write(bytes, offset, length, at)).bytesWritten;
    }
  }
}
