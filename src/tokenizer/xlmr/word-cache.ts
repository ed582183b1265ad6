import { reserveTokenIds, type TokenIds } from './token-ids.ts';

/** Remembers the ids of words. */
export interface WordCache {
  /** Appends the ids of the word `codes[0]` to before `codes[count]`, when it is remembered. */
  append(codes: Uint16Array, count: number, out: TokenIds): boolean;
  /**
   * Remembers the word that `append` has just missed: its ids are those of `out` from `from` on.
   */
  remember(codes: Uint16Array, count: number, out: TokenIds, from: number): void;
}

/**
 * Words that are remembered, a power of two. Russian prose finds nine words of ten among the last
 * 8,192; together they take 600 kB, which stays in the second-level cache.
 */
const ENTRY_COUNT = 8_192;

/** Longer words are rare and not remembered. A power of two, the mark not counted. */
const CODES_MAX = 16;

/** Words of more pieces are not remembered. A power of two. */
const IDS_MAX = 8;

/**
 * A word's ids depend on nothing but its codes, and the words of a language repeat. So the last
 * word of each hash is kept with its ids. The codes are compared one by one: a collision costs a
 * search, never a wrong id.
 */
export function createWordCache(): WordCache {
  const wordCodes = new Uint16Array(ENTRY_COUNT * CODES_MAX);
  const wordIds = new Int32Array(ENTRY_COUNT * IDS_MAX);
  /** By entry: codes in the word × 16 + ids of it; 0 for none. */
  const sizes = new Uint16Array(ENTRY_COUNT);
  /** Where `append` has just missed. */
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
