/**
 * What the encoder does with a character, in sixteen bits.
 *
 * Below `ROUTE.special` the value is the character's code in the piece trie, or 0 when no piece has
 * it. Such a character stands for itself, whatever its neighbours (with the exceptions that
 * `segment-encoder.ts` names). From `ROUTE.special` on it is an index into the special entries.
 */
export const ROUTE = {
  special: 0x4000,
  /** Half of a character above U+FFFF. Alone, it counts as U+FFFD. */
  surrogate: 0xfffc,
  /**
   * A control character that the charsmap replaces by one space: a line break, a tab. For ids it is
   * a space. Offsets treat CR LF as one character.
   */
  blank: 0xfffd,
  /** A word mark that never collapses: the Metaspace replacement itself. */
  mark: 0xfffe,
  /** A space: starts a word, and runs of it collapse. */
  space: 0xffff,
} as const;

/** The label of a free slot in the piece trie. No character has it, so codes stay below. */
export const LABEL_FREE = 0x3fff;

/** Bits of a special entry. */
export const SPECIAL = {
  /** A grapheme cluster of its own: no mark clings to it. */
  control: 1,
  /** The charsmap replaces it when it stands alone. */
  mapped: 2,
  /** The charsmap has pairs in which it comes second. */
  second: 4,
} as const;

/** Bits of a piece id. A trie slot packs label and piece id: label × 2^PIECE_BITS + id. */
export const PIECE_BITS = 18;

/** The piece id of a trie node where no piece ends. */
export const PIECE_NONE = (1 << PIECE_BITS) - 1;

/**
 * Pairs of characters with replacements: a hash table with open addressing. It is at most a quarter
 * full, so that most lookups end at the first slot.
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
