import { invariant } from '../base/errors.ts';

/** What a model can give: one vector a text, one weight a token, one vector a token. */
export type Head = 'dense' | 'sparse' | 'multi_vector';

/** Every head, in the order in which sets of them are kept. */
export const HEADS = ['dense', 'sparse', 'multi_vector'] as const satisfies readonly Head[];

/**
 * The sets of heads by bit mask; the first is empty. Heads are compared by identity on the hot
 * path.
 */
const HEAD_SETS: readonly (readonly Head[])[] = Array.from({ length: 8 }, (_, mask) =>
  HEADS.filter((_head, bit) => (mask & (1 << bit)) !== 0),
);

/** The one array that stands for a set of heads, in the order dense, sparse, multi-vector. */
export function headSet(heads: readonly Head[]): readonly Head[] {
  return HEAD_SETS[heads.reduce((mask, head) => mask | (1 << HEADS.indexOf(head)), 0)];
}

/** How many float32 values a head has for one text that is padded to `paddedLength` tokens. */
export function valuesPerText(
  head: Head,
  size: { dimension: number; paddedLength: number },
): number {
  if (head === 'dense') return size.dimension;
  if (head === 'sparse') return size.paddedLength;
  return (size.paddedLength - 1) * size.dimension;
}

/**
 * Float32 values, little-endian, somewhere in a reply. Part of them is handed out as a view where
 * the block starts at a multiple of four bytes, and copied otherwise: only what is wanted is
 * copied, never padding.
 */
export class FloatBlock {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  /** The same memory; undefined where it is not aligned. */
  readonly #floats: Float32Array<ArrayBuffer> | undefined;

  /**
   * @param bytes borrowed for as long as the block or a view of it lives; a multiple of four long.
   */
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    invariant(bytes.length % 4 === 0, 'float32 values have four bytes each');
    const { buffer, byteOffset, length } = bytes;
    this.#bytes = bytes;
    this.#floats =
      byteOffset % 4 === 0 ? new Float32Array(buffer, byteOffset, length / 4) : undefined;
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
    if (this.#floats !== undefined) return this.#floats.subarray(from, from + count);
    return new Float32Array(this.#bytes.slice(from * 4, (from + count) * 4).buffer);
  }
}
