import type { TokenizerTables } from './compiled-format.ts';
import { PIECE_BITS, PIECE_NONE } from './route.ts';
import { reserveTokenIds, type TokenIds } from './token-ids.ts';

/** Finds the most probable pieces of a word. */
export interface UnigramSearch {
  /**
   * Appends the ids of the word `codes[0]` to before `codes[count]`.
   *
   * @param out borrowed; grows as needed.
   * @param lengths when given, gets the count of codes that each id covers, at the id's index.
   */
  appendPieces(codes: Uint16Array, count: number, out: TokenIds, lengths: TokenIds | null): void;
  /** Frees what a very long word left behind. */
  shrink(): void;
}

/** Codes of a word before the arrays grow: most words are far shorter. 12 kB. */
const WORD_LENGTH_USUAL = 1024;

/**
 * Viterbi over the piece trie, from the word's start: `best[i]` is the score of the best way to cover the first `i` codes,
 * `steps[i]` the length and id of its last piece. Sums are 64-bit, begin at zero with each word, and only a strictly better
 * way replaces an earlier one: so does the reference, and ties come out alike.
 */
export function createUnigramSearch(tables: TokenizerTables): UnigramSearch {
  const { trie, scores } = tables;
  const { unknownId, unknownScore } = tables.meta;
  let best = new Float64Array(WORD_LENGTH_USUAL).fill(Number.NEGATIVE_INFINITY);
  let steps = new Int32Array(WORD_LENGTH_USUAL);

  /** Fills `steps`. Leaves `best` as it found it: every entry minus infinity. */
  function search(codes: Uint16Array, count: number): void {
    best[0] = 0;
    for (let from = 0; from < count; from++) {
      const here = best[from] as number;
      best[from] = Number.NEGATIVE_INFINITY;
      let isCovered = false;
      let base = 0;
      for (let to = from; to < count; ) {
        const code = codes[to] as number;
        const slot = (base + code) * 2;
        const word = trie[slot + 1] as number;
        if (word >>> PIECE_BITS !== code) break;
        to++;
        const id = word & PIECE_NONE;
        if (id !== PIECE_NONE) {
          const total = here + (scores[id] as number);
          if (total > (best[to] as number)) {
            best[to] = total;
            steps[to] = ((to - from) << PIECE_BITS) | id;
          }
          if (to === from + 1) isCovered = true;
        }
        base = trie[slot] as number;
        if (base === 0) break;
      }
      if (!isCovered && here + unknownScore > (best[from + 1] as number)) {
        best[from + 1] = here + unknownScore;
        steps[from + 1] = (1 << PIECE_BITS) | unknownId;
      }
    }
    best[count] = Number.NEGATIVE_INFINITY;
  }

  return {
    appendPieces(codes, count, out, lengths) {
      if (count >= best.length) {
        best = new Float64Array(count * 2).fill(Number.NEGATIVE_INFINITY);
        steps = new Int32Array(count * 2);
      }
      search(codes, count);
      reserveTokenIds(out, count);
      const ids = out.ids;
      const end = out.length + count;
      // From the word's end backwards, then moved down to where the list ends.
      let at = end;
      let previous = -1;
      for (let to = count; to > 0; ) {
        const step = steps[to] as number;
        const id = step & PIECE_NONE;
        const length = step >>> PIECE_BITS;
        to -= length;
        const isFused = id === unknownId && previous === unknownId;
        if (!isFused) at--;
        ids[at] = id;
        previous = id;
        if (lengths !== null) {
          reserveTokenIds(lengths, end);
          lengths.ids[at] = length + (isFused ? (lengths.ids[at] as number) : 0);
        }
      }
      if (lengths !== null) lengths.ids.copyWithin(out.length, at, end);
      let to = out.length;
      while (at < end) ids[to++] = ids[at++] as number;
      out.length = to;
    },
    shrink() {
      if (best.length === WORD_LENGTH_USUAL) return;
      best = new Float64Array(WORD_LENGTH_USUAL).fill(Number.NEGATIVE_INFINITY);
      steps = new Int32Array(WORD_LENGTH_USUAL);
    },
  };
}
