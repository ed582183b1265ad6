import type { TextOutput } from '../vectors/output-guard.ts';

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
  /** Index of a text by its row's first component; kept between batches to save a new map. */
  readonly #seen = new Map<number, number>();
  #coarseRowCount = 0;

  /** @returns the shared row of each text that has one; undefined when none has. */
  find<Text extends { readonly ids: Int32Array }>(
    texts: readonly Text[],
    outputs: readonly TextOutput[],
  ): Map<Text, SharedRow> | undefined {
    if (texts.length < 2 || this.#coarseRowCount >= COARSE_ROWS_MAX) return undefined;
    const seen = this.#seen;
    seen.clear();
    let shared: Map<Text, SharedRow> | undefined;
    for (let index = 0; index < texts.length; index++) {
      const row = outputs[index].dense;
      if (row === undefined) return undefined;
      const earlier = seen.get(row[0]);
      if (earlier === undefined) {
        seen.set(row[0], index);
        continue;
      }
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

function areEqual(a: Float32Array | Int32Array, b: Float32Array | Int32Array | undefined): boolean {
  if (b === undefined || a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}
