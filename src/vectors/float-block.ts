import { invariant } from '../base/invariant.ts';

/**
 * Float32 values, little-endian, somewhere in a reply. Part of them is handed out as a view where
 * they lie at a multiple of four bytes, and copied otherwise: the offset is the sender's choice,
 * and only what is wanted is copied, never padding.
 */
export class FloatBlock {
  readonly #bytes: Uint8Array<ArrayBuffer>;

  /**
   * @param bytes borrowed for as long as the block or a view of it lives; a multiple of four long.
   */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    invariant(bytes.length % 4 === 0, 'float32 values have four bytes each');
    this.#bytes = bytes;
  }

  static of(values: Float32Array<ArrayBuffer>): FloatBlock {
    return new FloatBlock(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  /** How many values there are. */
  get length(): number {
    return this.#bytes.length / 4;
  }

  /** `count` values from index `from` on. */
  values(from: number, count: number): Float32Array<ArrayBuffer> {
    invariant(from >= 0 && from + count <= this.length, 'values lie within the block');
    const { buffer, byteOffset } = this.#bytes;
    const start = byteOffset + from * 4;
    if (start % 4 === 0) return new Float32Array(buffer, start, count);
    return new Float32Array(buffer.slice(start, start + count * 4));
  }
}
