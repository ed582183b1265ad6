/**
 * Pairs of characters with replacements: an open hash table, at most a quarter full, so that most
 * lookups end at once.
 */
export interface PairTable {
  /** First × 65536 + second, 0 where free; as many as a power of two. */
  readonly pairKeys: Uint32Array;
  /** Where the replacement stands: first × 256 + count. */
  readonly pairSpans: Uint32Array;
}

/** @param spans by first × 65536 + second, never 0. */
export function packPairs(spans: ReadonlyMap<number, number>): PairTable {
  const size = 4 << (32 - Math.clz32(spans.size));
  const pairKeys = new Uint32Array(size);
  const pairSpans = new Uint32Array(size);
  for (const [key, span] of spans) {
    let at = slotOf(key, size);
    while (pairKeys[at] !== 0) at = (at + 1) & (size - 1);
    pairKeys[at] = key;
    pairSpans[at] = span;
  }
  return { pairKeys, pairSpans };
}

/** @returns the pair's replacement, or -1. */
export function findPair(table: PairTable, first: number, second: number): number {
  const { pairKeys, pairSpans } = table;
  const key = first * 0x10000 + second;
  const mask = pairKeys.length - 1;
  for (let at = slotOf(key, mask + 1); ; at = (at + 1) & mask) {
    const found = pairKeys[at];
    if (found === key) return pairSpans[at];
    if (found === 0) return -1;
  }
}

function slotOf(key: number, size: number): number {
  const mixed = Math.imul(key ^ (key >>> 15), 0x9e3779b1);
  return (mixed ^ (mixed >>> 16)) & (size - 1);
}
