import { HEADS, type Head, type TextOutput } from '../vectors/output.ts';

/**
 * Where the numbers of a request lie from the return of their batch until they stand in the reply.
 *
 * What a batch gave is lent: the next batch may be written over it. So each text's numbers are
 * copied once, to memory of its request's own, which another request gets when the reply is
 * written. Fresh memory for each would cost more than the copy: the kernel clears it page by page,
 * a row of 1,024 values is a page, and a page takes it a µs.
 */

/** Memory up to this size is kept for the requests to come: 4,000 rows of 1,024 values. */
const KEPT_BYTES_MAX = 1 << 24;

/** Blocks of numbers that nobody uses, by their length; all lengths are powers of two. */
const kept = new Map<number, Float32Array<ArrayBuffer>[]>();
let keptBytes = 0;

function take(count: number): Float32Array<ArrayBuffer> {
  const length = 2 ** Math.ceil(Math.log2(Math.max(1, count)));
  const block = kept.get(length)?.pop();
  if (block === undefined) return new Float32Array(length);
  keptBytes -= block.byteLength;
  return block;
}

function keep(block: Float32Array<ArrayBuffer>): void {
  if (keptBytes + block.byteLength > KEPT_BYTES_MAX) return;
  keptBytes += block.byteLength;
  const others = kept.get(block.length);
  if (others === undefined) kept.set(block.length, [block]);
  else others.push(block);
}

/** The numbers of one request. */
export class RequestRows {
  readonly #textCount: number;
  /** All dense rows, one after the other, so that a reply can copy them as one block. */
  #dense: Float32Array<ArrayBuffer> | undefined;
  #others: Float32Array<ArrayBuffer>[] = [];

  constructor(textCount: number) {
    this.#textCount = textCount;
  }

  /**
   * Copies what the text at `index` got.
   *
   * @param output borrowed. All dense rows of a request have one length.
   * @returns views, valid until `giveBack`.
   */
  put(index: number, output: TextOutput): TextOutput {
    const { dense, sparse, multi_vector: multiVector } = output;
    // The usual case, written out: this is done for each text.
    if (dense !== undefined && sparse === undefined && multiVector === undefined) {
      const place = this.#placeOf(index, dense.length);
      place.set(dense);
      return { dense: place };
    }
    const copy: { -readonly [H in Head]?: Float32Array } = {};
    for (const head of HEADS) {
      const values = output[head];
      if (values === undefined) continue;
      copy[head] = head === 'dense' ? this.#placeOf(index, values.length) : this.#room(values);
      copy[head].set(values);
    }
    return copy;
  }

  /** Nobody reads any of the numbers again. */
  giveBack(): void {
    if (this.#dense !== undefined) keep(this.#dense);
    for (const block of this.#others) keep(block);
    this.#dense = undefined;
    this.#others = [];
  }

  #placeOf(index: number, length: number): Float32Array {
    this.#dense ??= take(this.#textCount * length);
    return this.#dense.subarray(index * length, (index + 1) * length);
  }

  #room({ length }: Float32Array): Float32Array {
    const block = take(length);
    this.#others.push(block);
    return block.subarray(0, length);
  }
}
