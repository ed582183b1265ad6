import { GRAPHEME_TABLE } from './grapheme-table.ts';

/**
 * What a code point does to the grapheme clusters around it, as bits. Only what can change an id is
 * kept: Hangul syllables and flags also form clusters, but nothing in them has a replacement, which
 * the compiler checks.
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

const PAGE_SIZE = 256;

/** Classes of all code points, in pages of 256. Page 0 is that of all blocks without any. */
export interface GraphemeTable {
  /** By code point / 256: the index of its page. */
  readonly graphemePages: Uint16Array;
  /** Bits of `GRAPHEME`, page behind page. */
  readonly graphemeBits: Uint16Array;
}

/** Bits of `GRAPHEME` of a code point. */
export function graphemeOf(table: GraphemeTable, codePoint: number): number {
  const page = table.graphemePages[codePoint >>> 8];
  return table.graphemeBits[(page << 8) | (codePoint & 0xff)];
}

/** Unpacks the table. The arrays belong to the caller. */
export function readGraphemeTable(): GraphemeTable {
  const graphemePages = new Uint16Array(0x110000 / PAGE_SIZE);
  const bits: number[] = new Array(PAGE_SIZE).fill(0);
  const ranges = GRAPHEME_TABLE.split(' ').map((word) => {
    const [distance, value] = word.split('.').map((digits) => Number.parseInt(digits, 36));
    return { distance, value };
  });
  let start = 0;
  for (const [index, { distance, value }] of ranges.entries()) {
    start += distance;
    const end = start + (ranges[index + 1]?.distance ?? 0x110000 - start);
    for (let codePoint = start; value !== 0 && codePoint < end; codePoint++) {
      const block = codePoint >>> 8;
      if (graphemePages[block] === 0) {
        graphemePages[block] = bits.length / PAGE_SIZE;
        bits.push(...new Array(PAGE_SIZE).fill(0));
      }
      bits[graphemePages[block] * PAGE_SIZE + (codePoint & 0xff)] = value;
    }
  }
  return { graphemePages, graphemeBits: Uint16Array.from(bits) };
}
