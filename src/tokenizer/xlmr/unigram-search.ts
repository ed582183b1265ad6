import type { TokenizerTables } from './compiled-format.ts';
import { PIECE_BITS, PIECE_NONE } from './route.ts';
import { createRunSearch } from './run-search.ts';
import { reserveTokenIds, type TokenIds } from './token-ids.ts';
import { createWordCache } from './word-cache.ts';

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

/** Codes of a word before the array grows: most words are far shorter. */
const WORD_LENGTH_USUAL = 4096;

/** A longer array is given back after use. 256 kB. */
const WORD_LENGTH_KEPT = 65_536;

/**
 * Viterbi over the piece trie, from the word's start: `best[i]` is the score of the best way to
 * cover the first `i` codes, `steps[i]` the length and id of its last piece. Sums are 64-bit, begin
 * at zero with each word, and only a strictly better way replaces an earlier one: so does the
 * reference, and ties come out alike.
 */
export function createUnigramSearch(
  tables: TokenizerTables,
  options: { readonly remembersWords: boolean },
): UnigramSearch {
  const { trie, scores } = tables;
  const { unknownId, unknownScore, pieceLengthMax } = tables.meta;
  const cache = options.remembersWords ? createWordCache() : null;
  // No piece reaches further than the longest, so the scores of a few places are enough at any
  // time.
  const best = new Float64Array(2 ** Math.ceil(Math.log2(pieceLengthMax + 1)));
  best.fill(Number.NEGATIVE_INFINITY);
  let steps = new Int32Array(WORD_LENGTH_USUAL);
  const runs = createRunSearch(tables);

  /** Fills `steps`. Leaves `best` as it found it: every entry minus infinity. */
  function search(codes: Uint16Array, count: number): void {
    best[0] = 0;
    for (let from = 0; from < count; ) {
      const start = runs.startOf(codes, from, count);
      advance(codes, from, start, count);
      from = start === count ? count : runs.advance({ codes, start, count, best, steps });
    }
    best[count & (best.length - 1)] = Number.NEGATIVE_INFINITY;
  }

  /** Extends the best ways that end at `start` to before `stop` by every piece that follows. */
  function advance(codes: Uint16Array, start: number, stop: number, count: number): void {
    // In locals, because what a closure captures is read anew at every use.
    const slots = trie;
    const costs = scores;
    const reached = best;
    const ring = best.length - 1;
    const taken = steps;
    for (let from = start; from < stop; from++) {
      const here = reached[from & ring];
      reached[from & ring] = Number.NEGATIVE_INFINITY;
      let to = from + 1;
      let code = codes[from];
      // The root's base is 0. Its step stands alone, because it alone decides what is unknown.
      let slot = code << 1;
      let word = slots[slot + 1];
      const hasChild = word >>> PIECE_BITS === code;
      let id = hasChild ? word & PIECE_NONE : PIECE_NONE;
      const isKnown = id !== PIECE_NONE;
      const first = here + (isKnown ? costs[id] : unknownScore);
      if (first > reached[to & ring]) {
        reached[to & ring] = first;
        taken[to] = (1 << PIECE_BITS) | (isKnown ? id : unknownId);
      }
      let base = hasChild ? slots[slot] : 0;
      while (base !== 0 && to < count) {
        code = codes[to];
        slot = (base + code) << 1;
        word = slots[slot + 1];
        if (word >>> PIECE_BITS !== code) break;
        to++;
        id = word & PIECE_NONE;
        if (id !== PIECE_NONE) {
          const total = here + costs[id];
          if (total > reached[to & ring]) {
            reached[to & ring] = total;
            taken[to] = ((to - from) << PIECE_BITS) | id;
          }
        }
        base = slots[slot];
      }
    }
  }

  /**
   * Appends the pieces that `steps` tells, adjacent unknown ones as one. They are read from the
   * word's end, and moved together there on the way: each step frees the places that it covers.
   */
  function appendSteps(count: number, out: TokenIds, lengths: TokenIds | null): void {
    const taken = steps;
    let first = count;
    let fusedCount = 0;
    let isUnknown = false;
    // What ends the word's way: no step is 0.
    taken[0] = 0;
    for (let to = count; to > 0; ) {
      const step = taken[to];
      const wasUnknown = isUnknown;
      isUnknown = (step & PIECE_NONE) === unknownId;
      if (isUnknown && wasUnknown) fusedCount++;
      const length = step >>> PIECE_BITS;
      // Equal steps in a row need not wait for one another.
      taken[first--] = step;
      to -= length;
      while (taken[to] === step) {
        if (isUnknown) fusedCount++;
        taken[first--] = step;
        to -= length;
      }
    }
    const idCount = count - first - fusedCount;
    reserveTokenIds(out, idCount);
    const ids = out.ids;
    let at = out.length - 1;
    out.length += idCount;
    if (lengths !== null) reserveTokenIds(lengths, out.length);
    isUnknown = false;
    for (let index = first + 1; index <= count; index++) {
      const id = taken[index] & PIECE_NONE;
      const isFused = isUnknown && id === unknownId;
      isUnknown = id === unknownId;
      if (!isFused) ids[++at] = id;
      if (lengths !== null) {
        lengths.ids[at] = (taken[index] >>> PIECE_BITS) + (isFused ? lengths.ids[at] : 0);
      }
    }
  }

  return {
    appendPieces(codes, count, out, lengths) {
      const words = lengths === null ? cache : null;
      if (words?.append(codes, count, out)) return;
      if (count >= steps.length) steps = new Int32Array(count + 1);
      const first = out.length;
      search(codes, count);
      appendSteps(count, out, lengths);
      words?.remember(codes, count, out, first);
    },
    shrink() {
      if (steps.length > WORD_LENGTH_KEPT) steps = new Int32Array(WORD_LENGTH_USUAL);
    },
  };
}
