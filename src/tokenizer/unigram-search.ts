import type { TokenizerTables } from './compiled-format.ts';
import { PIECE_BITS, PIECE_NONE } from './route.ts';
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
  /** A shorter run is not worth looking up. */
  const runLengthMin = pieceLengthMax * 4;

  /** Fills `steps`. Leaves `best` as it found it: every entry minus infinity. */
  function search(codes: Uint16Array, count: number): void {
    best[0] = 0;
    for (let from = 0; from < count; ) {
      const run = count > runLengthMin ? startOfRun(codes, from, count) : count;
      advance(codes, from, run, count);
      from = run === count ? count : advanceInRun(codes, run, count);
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

  /** Where the next long run of one code begins, or `count`. */
  function startOfRun(codes: Uint16Array, from: number, count: number): number {
    let start = from;
    for (let index = from + 1; index < count; index++) {
      if (codes[index] !== codes[start]) start = index;
      else if (index - start >= runLengthMin) return start;
    }
    return count;
  }

  /**
   * As `advance`, through the run that begins at `start`, as far as no piece leaves it: the pieces
   * that follow are the same everywhere, and looked up once. @returns where it stopped.
   */
  function advanceInRun(codes: Uint16Array, start: number, count: number): number {
    let stop = start;
    while (stop < count && codes[stop] === codes[start]) stop++;
    stop -= pieceLengthMax;
    const pieces = piecesOfRun(codes[start]);
    const costs = Float64Array.from(pieces, ({ cost }) => cost);
    const marks = Int32Array.from(pieces, ({ length, id }) => (length << PIECE_BITS) | id);
    const reached = best;
    const ring = best.length - 1;
    const taken = steps;
    for (let from = start; from < stop; from++) {
      const here = reached[from & ring];
      reached[from & ring] = Number.NEGATIVE_INFINITY;
      for (let index = 0; index < marks.length; index++) {
        const to = from + (marks[index] >>> PIECE_BITS);
        const total = here + costs[index];
        if (total > reached[to & ring]) {
          reached[to & ring] = total;
          taken[to] = marks[index];
        }
      }
    }
    return stop;
  }

  /** The pieces that are one code over and over, and the unknown one if the code alone is none. */
  function piecesOfRun(code: number): { length: number; id: number; cost: number }[] {
    const pieces: { length: number; id: number; cost: number }[] = [];
    let base = 0;
    for (let length = 1; length === 1 || base !== 0; length++) {
      const slot = (base + code) << 1;
      const word = trie[slot + 1];
      if (word >>> PIECE_BITS !== code) break;
      const id = word & PIECE_NONE;
      if (id !== PIECE_NONE) pieces.push({ length, id, cost: scores[id] });
      base = trie[slot];
    }
    if (pieces[0]?.length !== 1) pieces.push({ length: 1, id: unknownId, cost: unknownScore });
    return pieces;
  }

  /**
   * Appends the pieces that `steps` tells, read from the word's end, adjacent unknown ones as one.
   */
  function appendSteps(count: number, out: TokenIds, lengths: TokenIds | null): void {
    const taken = steps;
    let idCount = 0;
    let isUnknown = false;
    for (let to = count; to > 0; ) {
      const step = taken[to];
      const wasUnknown = isUnknown;
      isUnknown = (step & PIECE_NONE) === unknownId;
      if (!(isUnknown && wasUnknown)) idCount++;
      to -= step >>> PIECE_BITS;
    }
    reserveTokenIds(out, idCount);
    const ids = out.ids;
    let at = out.length + idCount;
    out.length = at;
    if (lengths !== null) reserveTokenIds(lengths, at);
    isUnknown = false;
    for (let to = count; to > 0; ) {
      const step = taken[to];
      const id = step & PIECE_NONE;
      const length = step >>> PIECE_BITS;
      const isFused = isUnknown && id === unknownId;
      isUnknown = id === unknownId;
      if (!isFused) ids[--at] = id;
      if (lengths !== null) {
        lengths.ids[at] = length + (isFused ? lengths.ids[at] : 0);
      }
      to -= length;
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
