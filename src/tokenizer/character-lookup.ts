import type { TokenizerTables } from './compiled-format.ts';
import { GRAPHEME } from './grapheme-class.ts';
import { ROUTE, SPECIAL } from './route.ts';

/** What is known of characters and of the clusters that they form. All positions are UTF-16 units in a text. */
export interface CharacterLookup {
  /** `ROUTE` of the character at `index`; a lone surrogate counts as U+FFFD. */
  routeAt(text: string, index: number, end: number): number;
  /** Where the character at `index` ends. */
  nextOf(text: string, index: number, end: number): number;
  /** Where the character that ends before `index` starts. */
  previousOf(text: string, index: number, start: number): number;
  /** Bits of `SPECIAL`; 0 for a character that has a plain route. */
  flagsOf(route: number): number;
  /** The replacement of a pair that begins a cluster, as first × 256 + count, or -1. */
  findPair(first: number, second: number): number;
  /** Whether the character at `index` belongs to the cluster of the one before it. */
  isAttached(text: string, index: number, start: number, end: number): boolean;
}

export function createCharacterLookup(tables: TokenizerTables): CharacterLookup {
  const { unitRoutes, astralPages, astralRoutes, specialFlags, pairKeys, pairSpans } = tables;
  const { graphemeStarts, graphemeBits } = tables;

  function nextOf(text: string, index: number, end: number): number {
    const isPair =
      index + 1 < end &&
      isHighSurrogate(text.charCodeAt(index)) &&
      isLowSurrogate(text.charCodeAt(index + 1));
    return isPair ? index + 2 : index + 1;
  }

  function previousOf(text: string, index: number, start: number): number {
    const isPair =
      index - 2 >= start &&
      isLowSurrogate(text.charCodeAt(index - 1)) &&
      isHighSurrogate(text.charCodeAt(index - 2));
    return isPair ? index - 2 : index - 1;
  }

  function flagsOf(route: number): number {
    if (route < ROUTE.special || route >= ROUTE.mark) return 0;
    return specialFlags[route - ROUTE.special] ?? 0;
  }

  function routeAt(text: string, index: number, end: number): number {
    if (nextOf(text, index, end) === index + 1) return unitRoutes[text.charCodeAt(index)] ?? 0;
    const offset = (text.codePointAt(index) ?? 0) - 0x10000;
    return astralRoutes[(astralPages[offset >>> 8] ?? 0) * 256 + (offset & 0xff)] ?? 0;
  }

  function graphemeOf(codePoint: number): number {
    let low = 0;
    let high = graphemeStarts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((graphemeStarts[middle] ?? 0) <= codePoint) low = middle;
      else high = middle;
    }
    return graphemeBits[low] ?? 0;
  }

  /**
   * Whether, going back from `index` over marks with the bit `passes`, a character with the bit `target` is met; and on the
   * way a mark with the bit `needs`, unless that is 0.
   */
  function isReached(
    text: string,
    index: number,
    start: number,
    bits: { passes: number; needs: number; target: number },
  ): boolean {
    let isMet = bits.needs === 0;
    for (let at = index; at > start; ) {
      at = previousOf(text, at, start);
      const grapheme = graphemeOf(text.codePointAt(at) ?? 0);
      if (grapheme & bits.needs) isMet = true;
      if ((grapheme & bits.passes) === 0) return isMet && (grapheme & bits.target) !== 0;
    }
    return false;
  }

  return {
    routeAt,
    nextOf,
    previousOf,
    flagsOf,
    findPair(first, second) {
      const key = first * 0x10000 + second;
      let low = 0;
      let high = pairKeys.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((pairKeys[middle] ?? 0) < key) low = middle + 1;
        else high = middle;
      }
      return pairKeys[low] === key ? (pairSpans[low] ?? 0) : -1;
    },
    isAttached(text, index, start, end) {
      if (index <= start) return false;
      const before = previousOf(text, index, start);
      if (flagsOf(routeAt(text, before, end)) & SPECIAL.control) return false;
      const bits = graphemeOf(text.codePointAt(index) ?? 0);
      if (bits & GRAPHEME.control) return false;
      if (bits & GRAPHEME.attaches) return true;
      const beforeBits = graphemeOf(text.codePointAt(before) ?? 0);
      if (beforeBits & GRAPHEME.prepend) return true;
      if (bits & GRAPHEME.pictograph && beforeBits & GRAPHEME.joiner) {
        const { pictographExtend, pictograph } = GRAPHEME;
        return isReached(text, before, start, {
          passes: pictographExtend,
          needs: 0,
          target: pictograph,
        });
      }
      if (bits & GRAPHEME.consonant) {
        const { consonantExtend, consonant, linker } = GRAPHEME;
        return isReached(text, index, start, {
          passes: consonantExtend,
          needs: linker,
          target: consonant,
        });
      }
      return false;
    },
  };
}

function isHighSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}

function isLowSurrogate(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00;
}
