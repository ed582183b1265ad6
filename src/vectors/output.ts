import { invariant } from '../base/errors.ts';
import { setFloat16, setFloat16Within, squaredLengthsAreWithin } from './row-kernels.ts';
import { faultOfWeights } from './sparse.ts';

/**
 * What a model gives for its texts: heads, as blocks of numbers. Then the output guard: a batch's
 * blocks are cut into one output a text, each is checked alone, and rows are compared.
 */

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

/** The same sets again, whose multi-vectors are wanted as float16 alone. */
const HALVED_SETS = HEAD_SETS.map((heads) => [...heads]);

/**
 * The one array that stands for a set of heads, in the order dense, sparse, multi-vector.
 *
 * @param options.halves multi-vectors are wanted as float16, and nobody needs their float32.
 */
export function headSet(
  heads: readonly Head[],
  { halves = false }: { readonly halves?: boolean } = {},
): readonly Head[] {
  const sets = halves && heads.includes('multi_vector') ? HALVED_SETS : HEAD_SETS;
  return sets[heads.reduce((mask, head) => mask | (1 << HEADS.indexOf(head)), 0)];
}

/** Whether multi-vectors of this set are wanted as float16. */
export function areHalved(heads: readonly Head[]): boolean {
  return heads.length > 0 && HALVED_SETS.includes(heads as Head[]);
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

/** Room before a text's halves, for what a reply says first: a dense row, names, counts. */
export const HALVES_ROOM_BYTES = 4096;

/** What one text got: the heads that were asked for, without padding. */
export interface TextOutput {
  /** `[dimension]`. */
  readonly dense?: Float32Array;
  /** `[tokenCount]`, in the order of the text's token ids. */
  readonly sparse?: Float32Array;
  /** `[tokenCount - 1, dimension]`. */
  readonly multi_vector?: Float32Array;
  /**
   * The same as float16, where that is all that is wanted. The output guard writes it while it looks
   * at `multi_vector`: the one pass over memory that no cache holds.
   */
  readonly halves?: Float16Array;
}

/** What the cut must know of a batch; the backend's `TokenBatch` has it. */
interface Batch {
  readonly texts: readonly Int32Array[];
  readonly paddedLength: number;
  readonly heads: readonly Head[];
}

/**
 * Cuts a batch's output into one for each text.
 *
 * @param output row-major, one block for each head of the batch; borrowed.
 * @param takeHalves gives memory for so many halves.
 * @returns views of the blocks, or small copies where a block is not aligned to four bytes.
 */
export function outputsOfTexts(
  batch: Batch,
  output: { readonly [H in Head]?: FloatBlock },
  takeHalves: (count: number) => Float16Array,
): TextOutput[] {
  const outputs: { -readonly [Key in keyof TextOutput]: TextOutput[Key] }[] = batch.texts.map(
    () => ({}),
  );
  for (const head of batch.heads) {
    const block = output[head];
    invariant(block !== undefined, 'a backend answers each head that was asked for');
    const stride = block.length / batch.texts.length;
    invariant(Number.isInteger(stride) && stride > 0, 'a batch output has as much for each text');
    for (let index = 0; index < outputs.length; index++) {
      outputs[index][head] =
        head === 'dense'
          ? block.values(index * stride, stride)
          : partByTokens(block, { head, index, stride, batch });
    }
  }
  if (!areHalved(batch.heads)) return outputs;
  for (const output of outputs) output.halves = takeHalves(output.multi_vector?.length ?? 0);
  return outputs;
}

/** A text's part of a head that has something for each token, without padding. */
function partByTokens(
  block: FloatBlock,
  part: { head: Head; index: number; stride: number; batch: Batch },
): Float32Array {
  const { head, index, stride, batch } = part;
  const tokenCount = batch.texts[index].length;
  const perToken = head === 'sparse' ? 1 : stride / (batch.paddedLength - 1);
  const size = { dimension: perToken, paddedLength: batch.paddedLength };
  invariant(stride === valuesPerText(head, size), 'a batch output has a share for each token');
  const shareCount = head === 'sparse' ? tokenCount : tokenCount - 1;
  return block.values(index * stride, shareCount * perToken);
}

/**
 * How far from 1 a normalised row's length may lie: float16 engines round each component by 2^-11.
 */
const NORM_TOLERANCE = 2e-3;

/**
 * Squared lengths of rows that are right without doubt. Such a sum in float32 is off by less than
 * what keeps it from the bounds; all others are looked at again, exactly.
 */
const SURELY_UNIT = {
  low: (1 - 0.95 * NORM_TOLERANCE) ** 2,
  high: (1 + 0.95 * NORM_TOLERANCE) ** 2,
};
const SURELY_FINITE = { low: 1e-30, high: 1e38 };

/** What the model promises of each row. */
export interface ExpectedRows {
  readonly dimension: number;
  /** Whether each row has length one (unit norm). */
  readonly isNormalized: boolean;
}

/**
 * Says what is wrong with what one text got, or nothing.
 *
 * A backend can answer 200 with NaN, zeros or rows of another model's length, and a vector store
 * keeps those for weeks. So every number is checked before it leaves, at 0.16 µs for each thousand.
 */
export function faultOfOutput(
  output: TextOutput,
  tokenCount: number,
  expected: ExpectedRows,
): string | undefined {
  const { dense, sparse, multi_vector: multiVector, halves } = output;
  const denseFault = dense && faultOfRow(dense, expected);
  if (denseFault !== undefined) return denseFault;
  const sparseFault = sparse && faultOfWeights(sparse);
  if (sparseFault !== undefined) return sparseFault;
  return multiVector && faultOfRows(multiVector, tokenCount - 1, expected, halves);
}

/**
 * Says what is wrong with a row, or nothing.
 *
 * @param row `[dimension]` float32; borrowed.
 */
export function faultOfRow(row: Float32Array, expected: ExpectedRows): string | undefined {
  if (row.length !== expected.dimension) {
    return `has ${row.length} components instead of ${expected.dimension}`;
  }
  if (areSurelyRight(row, expected)) return undefined;
  const sum = squaredLength(row);
  if (!Number.isFinite(sum)) return 'has a component that is not finite';
  if (sum === 0) return 'is all zeros';
  const norm = Math.sqrt(sum);
  if (expected.isNormalized && Math.abs(norm - 1) > NORM_TOLERANCE) {
    return `has length ${norm.toPrecision(6)} instead of 1`;
  }
  return undefined;
}

/** Whether rows pass at a glance, many at once. The exact look says what is wrong with one. */
function areSurelyRight(rows: Float32Array, { dimension, isNormalized }: ExpectedRows): boolean {
  return squaredLengthsAreWithin(rows, dimension, sureLengths(isNormalized));
}

function sureLengths(isNormalized: boolean): { readonly low: number; readonly high: number } {
  return isNormalized ? SURELY_UNIT : SURELY_FINITE;
}

/**
 * Four sums side by side. With one sum each addition waits for the one before: three times as long.
 * The sums are declared one by one: from `let [a, b, c, d] = …` the engine makes code that takes
 * three times as long again.
 */
function squaredLength(row: Float32Array): number {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let index = 0;
  for (; index + 4 <= row.length; index += 4) {
    a += row[index] * row[index];
    b += row[index + 1] * row[index + 1];
    c += row[index + 2] * row[index + 2];
    d += row[index + 3] * row[index + 3];
  }
  for (; index < row.length; index++) a += row[index] * row[index];
  return a + b + c + d;
}

/**
 * Says what is wrong with the first bad vector of a text's tokens, or nothing.
 *
 * @param halves where the rows are written as float16.
 */
export function faultOfRows(
  rows: Float32Array,
  rowCount: number,
  expected: ExpectedRows,
  halves?: Float16Array,
): string | undefined {
  const { dimension } = expected;
  if (rows.length !== rowCount * dimension) {
    return `has ${rows.length} values for ${rowCount} tokens of ${dimension} dimensions`;
  }
  let sureCount = 0;
  if (halves !== undefined) {
    sureCount = setFloat16Within(halves, rows, dimension, sureLengths(expected.isNormalized));
  } else if (areSurelyRight(rows, expected)) return undefined;
  for (let at = sureCount * dimension; at < rows.length; at += dimension) {
    const fault = faultOfRow(rows.subarray(at, at + dimension), expected);
    if (fault !== undefined) return fault;
  }
  if (halves !== undefined && sureCount < rowCount) {
    const at = sureCount * dimension;
    setFloat16(halves, rows.subarray(at), at);
  }
  return undefined;
}

/** Whether two rows, or two texts, have the same numbers. */
export function areEqual(
  a: Float32Array | Int32Array,
  b: Float32Array | Int32Array | undefined,
): boolean {
  if (b === undefined || a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** A dense row that a batch gave to several texts of different token ids. */
export interface SharedRow {
  readonly row: Float32Array;
  /** Texts that got it again when they ran alone. */
  ownerCount: number;
  /** What the canary got; asked once. */
  canaryRow?: Float32Array | undefined;
}

/**
 * Rows that the model gave to several texts again, each alone, after which rows are no longer
 * compared: a model that coarse gives equal rows in earnest.
 */
const COARSE_ROWS_MAX = 3;

/**
 * Finds duplicate rows: one row in a batch for several different texts. A kernel or a copy has
 * then written one row to two places. Such a row is finite and has unit norm, so no other check
 * sees it.
 *
 * A model may also be coarse and give equal rows in earnest, a fake with few rows for instance. So
 * each text that shares its row is run alone. The row that it gets then is its own, unless the
 * model gives that row to every text. The canary, a text that nobody sends, shows that.
 */
export class DuplicateRows {
  readonly #seen = new RowsByFirstValue();
  #coarseRowCount = 0;

  /** @returns the shared row of each text that has one; undefined when none has. */
  find<Text extends { readonly ids: Int32Array }>(
    texts: readonly Text[],
    outputs: readonly TextOutput[],
  ): Map<Text, SharedRow> | undefined {
    if (texts.length < 2 || this.#coarseRowCount >= COARSE_ROWS_MAX) return undefined;
    const seen = this.#seen;
    seen.clear(texts.length);
    let shared: Map<Text, SharedRow> | undefined;
    for (let index = 0; index < texts.length; index++) {
      const row = outputs[index].dense;
      if (row === undefined) return undefined;
      const earlier = seen.earlierOrAdd(row[0], index);
      if (earlier === -1) continue;
      const isShared =
        areEqual(row, outputs[earlier].dense) && !areEqual(texts[index].ids, texts[earlier].ids);
      if (!isShared) continue;
      shared ??= new Map();
      const sharedRow = shared.get(texts[earlier]) ?? { row, ownerCount: 0 };
      shared.set(texts[earlier], sharedRow).set(texts[index], sharedRow);
    }
    return shared;
  }

  /**
   * Whether the model gives the row that a text got alone to every text.
   *
   * @param askCanary runs the canary; undefined when that fails: the row counts as everyone's.
   */
  async isOfAll(
    row: Float32Array,
    shared: SharedRow,
    askCanary: () => Promise<Float32Array | undefined>,
  ): Promise<boolean> {
    if (!areEqual(row, shared.row)) return false;
    shared.canaryRow ??= await askCanary();
    if (shared.canaryRow === undefined || areEqual(row, shared.canaryRow)) return true;
    shared.ownerCount++;
    if (shared.ownerCount === 2) this.#coarseRowCount++;
    return false;
  }
}

/**
 * The first row of a batch for each first component: a hash table with open addressing, kept
 * between batches. A Map takes 1 µs for each row of a batch whose rows are not in any cache.
 */
class RowsByFirstValue {
  /** Index of the row plus one; 0 is empty. At least half of the places are. */
  #rows = new Int32Array(256);
  /** The bits of each row's first value. */
  #bits = new Int32Array(256);
  readonly #value = new Float32Array(1);
  readonly #valueBits = new Int32Array(this.#value.buffer);

  clear(rowCount: number): void {
    if (this.#rows.length < 2 * rowCount) {
      const placeCount = 2 ** Math.ceil(Math.log2(2 * rowCount));
      this.#rows = new Int32Array(placeCount);
      this.#bits = new Int32Array(placeCount);
    } else this.#rows.fill(0);
  }

  /** The index of the row with this first value, or -1 when there was none: `index` is it now. */
  earlierOrAdd(value: number, index: number): number {
    this.#value[0] = value;
    const bits = this.#valueBits[0];
    const last = this.#rows.length - 1;
    let place = (Math.imul(bits, 0x9e3779b1) >>> 8) & last;
    while (this.#rows[place] !== 0) {
      if (this.#bits[place] === bits) return this.#rows[place] - 1;
      place = (place + 1) & last;
    }
    this.#rows[place] = index + 1;
    this.#bits[place] = bits;
    return -1;
  }
}
