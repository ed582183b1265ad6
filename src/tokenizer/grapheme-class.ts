import { GRAPHEME_TABLE } from './grapheme-table.ts';

/**
 * What a code point does to the grapheme clusters around it, as bits. Only what can change an id is kept: Hangul syllables
 * and flags also form clusters, but nothing in them has a replacement, which the compiler checks.
 */
export const GRAPHEME = {
  /** Clings to what stands before it: extending and spacing marks, and the zero width joiner. */
  attaches: 1,
  /** What follows clings to it. */
  prepend: 2,
  /** A cluster of its own, except that CR LF are one. */
  control: 4,
  /** The zero width joiner: a pictograph after it clings to a pictograph before it. */
  joiner: 8,
  /** Extended pictographic. */
  pictograph: 16,
  /** Indic consonant: clings to a consonant before it when a linker stands between. */
  consonant: 32,
  /** A mark that may stand between a pictograph and a joiner. */
  pictographExtend: 64,
  /** A mark that may stand between two consonants beside a linker. */
  consonantExtend: 128,
  /** The mark that links two consonants. */
  linker: 256,
} as const;

/** Ranges of equal class; the range at `index` runs from `starts[index]` to before `starts[index + 1]`. */
export interface GraphemeRanges {
  /** Code points, ascending, the first 0. */
  readonly starts: Uint32Array;
  /** Bits of `GRAPHEME`. */
  readonly bits: Uint16Array;
}

/** Unpacks the table. The arrays belong to the caller. */
export function readGraphemeRanges(): GraphemeRanges {
  const words = GRAPHEME_TABLE.split(' ');
  const starts = new Uint32Array(words.length);
  const bits = new Uint16Array(words.length);
  let start = 0;
  for (const [index, word] of words.entries()) {
    const [distance = '', value = ''] = word.split('.');
    start += Number.parseInt(distance, 36);
    starts[index] = start;
    bits[index] = Number.parseInt(value, 36);
  }
  return { starts, bits };
}
