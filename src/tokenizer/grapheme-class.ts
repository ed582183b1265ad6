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

const PAGE_SIZE = 256;

/** Classes of all code points, in pages of 256 of which equal ones are kept once. */
export interface GraphemeTable {
  /** By code point / 256: the index of its page. */
  readonly graphemePages: Uint16Array;
  /** Bits of `GRAPHEME`, page behind page. */
  readonly graphemeBits: Uint16Array;
}

/** Bits of `GRAPHEME` of a code point. */
export function graphemeOf(table: GraphemeTable, codePoint: number): number {
  const page = table.graphemePages[codePoint >>> 8] as number;
  return table.graphemeBits[(page << 8) | (codePoint & 0xff)] as number;
}

/** Unpacks the table. The arrays belong to the caller. */
export function readGraphemeTable(): GraphemeTable {
  const classes = new Uint16Array(0x110000);
  const words = GRAPHEME_TABLE.split(' ').map((word) => word.split('.'));
  let start = 0;
  for (const [distance = '', bits = ''] of words) {
    start += Number.parseInt(distance, 36);
    classes.fill(Number.parseInt(bits, 36), start);
  }
  const known = new Map<string, number>();
  const pages: Uint16Array[] = [];
  const graphemePages = Uint16Array.from({ length: classes.length / PAGE_SIZE }, (_, index) => {
    const page = classes.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE);
    const key = page.join();
    const at = known.get(key) ?? pages.push(page) - 1;
    known.set(key, at);
    return at;
  });
  const graphemeBits = new Uint16Array(pages.length * PAGE_SIZE);
  for (const [index, page] of pages.entries()) graphemeBits.set(page, index * PAGE_SIZE);
  return { graphemePages, graphemeBits };
}
