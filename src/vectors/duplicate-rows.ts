import { areEqual, type TextOutput } from './output.ts';

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
   * @param askCanary runs the canary; undefined when that fails, and the row then counts as
   * everyone's.
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
