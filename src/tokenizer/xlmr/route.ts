/**
 * What the encoder does with a character, in sixteen bits.
 *
 * Below `ROUTE.special` the value is the character's code in the piece trie (0 when no piece has
 * it) and the character stands for itself whatever surrounds it, or nearly so: see
 * `segment-encoder.ts`. From `ROUTE.special` on it is an index into the special entries.
 */
export const ROUTE = {
  special: 0x4000,
  /** Half of a character above U+FFFF. Alone, it counts as U+FFFD. */
  surrogate: 0xfffc,
  /**
   * A control character that the charsmap replaces by one space: a line break, a tab. For ids it is
   * a space; only the offsets tell CR LF from two of them.
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

/**
 * The trie packs a node's label and the piece that ends there into one word: the label above these
 * bits.
 */
export const PIECE_BITS = 18;

/** The piece id of a trie node where no piece ends. */
export const PIECE_NONE = (1 << PIECE_BITS) - 1;
