import { type FileHandle, open, rm } from 'node:fs/promises';

/** Written bytes are handed to the system in blocks of this size. */
const BLOCK_BYTES = 1 << 20;

/** A file that nobody else sees yet. Blocks of bytes are joined before they are written. */
export class StagedFile {
  readonly path: string;
  readonly #file: FileHandle;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #length = 0;

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
    return this.#length;
  }

  /** @param bytes the file's from now on. */
  async append(bytes: Uint8Array): Promise<void> {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.byteLength;
    this.#length += bytes.byteLength;
    if (this.#pendingBytes >= BLOCK_BYTES) await this.#flush();
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
    if (this.#pendingBytes === 0) return;
    const [first] = this.#pending;
    const isOne = this.#pending.length === 1 && first !== undefined;
    const bytes = isOne ? first : Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    await this.#writeFully(bytes, this.#length - bytes.byteLength);
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
