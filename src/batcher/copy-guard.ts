import type { TextOutput } from '../vectors/text-output.ts';

/** A dense row that a batch gave to texts of different ids. */
export interface CopiedRow {
  readonly row: Float32Array;
  /** Texts that got it again when they ran alone. */
  ownerCount: number;
  /** What the canary got; asked once. */
  canaryRow?: Float32Array | undefined;
}

/**
 * Rows that a model has given to different texts in earnest before rows are no longer compared: it
 * is that coarse.
 */
const COARSE_ROWS_MAX = 3;

/**
 * Finds rows that stand in a batch twice for different texts: a kernel or a copy that wrote one row
 * to two places. Such rows are finite and of length one, so nothing else would ever notice.
 *
 * A model may also be coarse and mean it, a stand-in with few rows for instance. So a text that
 * shared its row is asked alone: its row then is the text's own, unless the model gives that row to
 * everything, which a canary, a text that nobody sends, tells.
 */
export class CopyGuard {
  /** By first component; kept between batches, so that one costs no new map. */
  readonly #seen = new Map<number, number>();
  #coarseRowCount = 0;

  /** @returns for each text that shares its row the shared row; undefined when there is none. */
  find<Text extends { readonly ids: Int32Array }>(
    texts: readonly Text[],
    outputs: readonly TextOutput[],
  ): Map<Text, CopiedRow> | undefined {
    if (texts.length < 2 || this.#coarseRowCount >= COARSE_ROWS_MAX) return undefined;
    const seen = this.#seen;
    seen.clear();
    let copies: Map<Text, CopiedRow> | undefined;
    for (let index = 0; index < texts.length; index++) {
      const row = outputs[index].dense;
      if (row === undefined) return undefined;
      const earlier = seen.get(row[0]);
      if (earlier === undefined) {
        seen.set(row[0], index);
        continue;
      }
      const isCopy =
        areEqual(row, outputs[earlier].dense) && !areEqual(texts[index].ids, texts[earlier].ids);
      if (!isCopy) continue;
      copies ??= new Map();
      const copied = copies.get(texts[earlier]) ?? { row, ownerCount: 0 };
      copies.set(texts[earlier], copied).set(texts[index], copied);
    }
    return copies;
  }

  /**
   * Whether the row that a text got alone has to be doubted: it is the copied one, and the model
   * gives that to everything.
   *
   * @param askCanary runs the text that nobody sends; its errors are the caller's.
   */
  async isDoubtful(
    row: Float32Array,
    copied: CopiedRow,
    askCanary: () => Promise<Float32Array | undefined>,
  ): Promise<boolean> {
    if (!areEqual(row, copied.row)) return false;
    copied.canaryRow ??= await askCanary();
    if (copied.canaryRow === undefined || areEqual(row, copied.canaryRow)) return true;
    copied.ownerCount++;
    if (copied.ownerCount === 2) this.#coarseRowCount++;
    return false;
  }
}

function areEqual(a: Float32Array | Int32Array, b: Float32Array | Int32Array | undefined): boolean {
  if (b === undefined || a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}
