import type { TokenizerTables } from './compiled-format.ts';
import { PIECE_BITS, PIECE_NONE } from './route.ts';

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
 * Viterbi over the piece trie, from the word's start. `best[i]` is the score of the best way to
 * cover the first `i` codes; `steps[i]` is the length and id of its last piece. Sums are 64-bit and
 * begin at zero with each word. Only a strictly better way replaces an earlier one, as in the
 * reference, so that ties come out alike.
 *
 * Time is linear in any word. 100,000 full stops take 3.7 ms, where as much Russian prose takes
 * 0.5 ms; a search of its own for runs of one character made that 1.1 ms, and left two characters
 * in turns (3.1 ms) as they were.
 */
export function createUnigramSearch(
  tables: TokenizerTables,
  options: { readonly remembersWords: boolean },
): UnigramSearch {
  const { trie, scores } = tables;
  const { unknownId, unknownScore, pieceLengthMax } = tables.meta;
  const cache = options.remembersWords ? createWordCache() : null;
  // A ring: no piece reaches further than the longest, so few scores are alive at any time.
  const best = new Float64Array(2 ** Math.ceil(Math.log2(pieceLengthMax + 1)));
  best.fill(Number.NEGATIVE_INFINITY);
  let steps = new Int32Array(WORD_LENGTH_USUAL);

  /**
   * Fills `steps`: extends the best ways that end at each place by every piece that follows. Leaves
   * `best` as it found it, every entry minus infinity.
   */
  function search(codes: Uint16Array, count: number): void {
    best[0] = 0;
    // In locals, because what a closure captures is read anew at every use.
    const slots = trie;
    const costs = scores;
    const reached = best;
    const ring = best.length - 1;
    const taken = steps;
    for (let from = 0; from < count; from++) {
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
    reached[count & ring] = Number.NEGATIVE_INFINITY;
  }

  /**
   * Appends the pieces that `steps` tells; adjacent unknown pieces become one. The way is read from
   * the word's end and packed there: each step frees the places that it covers.
   */
  function appendSteps(count: number, out: TokenIds, lengths: TokenIds | null): void {
    const taken = steps;
    let first = count;
    let fusedCount = 0;
    let isUnknown = false;
    // Ends the way: no step is 0.
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

/** The ids of words that came before. */
export interface WordCache {
  /**
   * Appends the ids of the word `codes[0]` to before `codes[count]`. @returns whether it was a hit.
   */
  append(codes: Uint16Array, count: number, out: TokenIds): boolean;
  /**
   * Stores the word that `append` has just missed. Its ids are those of `out` from `from` on.
   */
  remember(codes: Uint16Array, count: number, out: TokenIds, from: number): void;
}

/**
 * Words in the cache, a power of two. 8,192 entries have a hit rate of 0.9 on Russian prose and
 * take 600 kB, which stays in the second-level cache.
 */
const ENTRY_COUNT = 8_192;

/** Longer words are rare and not cached. A power of two, without the mark. */
const CODES_MAX = 16;

/** Words of more pieces are not cached. A power of two. */
const IDS_MAX = 8;

/**
 * A direct-mapped cache: each hash keeps its last word with the word's ids. A word's ids depend
 * only on its codes, and the words of a language repeat. Codes are compared one by one, so a
 * collision costs a search and never gives a wrong id.
 */
export function createWordCache(): WordCache {
  const wordCodes = new Uint16Array(ENTRY_COUNT * CODES_MAX);
  const wordIds = new Int32Array(ENTRY_COUNT * IDS_MAX);
  /** By entry: codes in the word × 16 + ids of it; 0 for none. */
  const sizes = new Uint16Array(ENTRY_COUNT);
  /** The entry where `append` has just missed. */
  let missed = 0;

  return {
    append(codes, count, out) {
      if (count > CODES_MAX + 1) return false;
      let hash = count;
      for (let index = 1; index < count; index++) {
        hash = Math.imul(hash, 0x9e3779b1) + codes[index];
      }
      const entry = (hash ^ (hash >>> 15)) & (ENTRY_COUNT - 1);
      missed = entry;
      const size = sizes[entry];
      if (size >>> 4 !== count) return false;
      const firstCode = entry * CODES_MAX - 1;
      for (let index = 1; index < count; index++) {
        if (wordCodes[firstCode + index] !== codes[index]) return false;
      }
      const idCount = size & 15;
      reserveTokenIds(out, idCount);
      const ids = out.ids;
      const firstId = entry * IDS_MAX;
      const to = out.length;
      for (let index = 0; index < idCount; index++) {
        ids[to + index] = wordIds[firstId + index];
      }
      out.length = to + idCount;
      return true;
    },
    remember(codes, count, out, from) {
      const idCount = out.length - from;
      if (count > CODES_MAX + 1 || idCount > IDS_MAX) return;
      const firstCode = missed * CODES_MAX - 1;
      for (let index = 1; index < count; index++) {
        wordCodes[firstCode + index] = codes[index];
      }
      const firstId = missed * IDS_MAX;
      for (let index = 0; index < idCount; index++) {
        wordIds[firstId + index] = out.ids[from + index];
      }
      sizes[missed] = count * 16 + idCount;
    },
  };
}

/**
 * A growing list of token ids, reused from text to text so that encoding allocates nothing. It may
 * hold the ids of several texts, one text after the other.
 */
export interface TokenIds {
  /** Replaced by a longer copy when full: read it again after every call that appends. */
  ids: Int32Array;
  /** Ids in use. */
  length: number;
}

/** @param capacity ids before the first growth. */
export function createTokenIds(capacity = 1024): TokenIds {
  return { ids: new Int32Array(capacity), length: 0 };
}

/** Makes room for `count` more ids. */
export function reserveTokenIds(out: TokenIds, count: number): void {
  const needed = out.length + count;
  if (needed <= out.ids.length) return;
  const grown = new Int32Array(Math.max(needed, out.ids.length * 2));
  grown.set(out.ids.subarray(0, out.length));
  out.ids = grown;
}
