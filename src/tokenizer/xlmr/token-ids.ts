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
