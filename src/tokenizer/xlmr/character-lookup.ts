import type { TokenizerTables } from './compiled-format.ts';
import { findPair, ROUTE, SPECIAL } from './route.ts';

/** The reference looks up grapheme clusters up to this long, and otherwise single code points. */
export const CLUSTER_BYTES_MAX = 5;

/**
 * Grapheme cluster properties of a code point, as bits. Only those that can change an id are kept.
 * Hangul syllables and flags also form clusters, but nothing in them has a replacement; the
 * compiler checks that.
 */
export const GRAPHEME = {
  /** Extends the cluster before it: extending and spacing marks, and the zero width joiner. */
  attaches: 1,
  /** The next character joins its cluster. */
  prepend: 2,
  /** A cluster of its own, except that CR LF are one. */
  control: 4,
  /** The zero width joiner: it joins a pictograph after it to one before it. */
  joiner: 8,
  /** Extended pictographic. */
  pictograph: 16,
  /** Indic consonant: joins a consonant before it when a linker is between them. */
  consonant: 32,
  /** A mark that may stand between a pictograph and a joiner. */
  pictographExtend: 64,
  /** A mark that may stand between two consonants beside a linker. */
  consonantExtend: 128,
  /** The mark that links two consonants. */
  linker: 256,
} as const;

/** The reference sees a lone surrogate as this character. */
const REPLACEMENT_CHARACTER = 0xfffd;

/** The first character that extends a cluster. */
const MARK_FIRST = 0x300;

/** The first character of the class Prepend. */
const PREPEND_FIRST = 0x600;

/**
 * Routes of characters, and the grapheme clusters that characters form. All positions are UTF-16
 * units in a text.
 */
export interface CharacterLookup {
  /** `ROUTE` of the character at `index`; a lone surrogate counts as U+FFFD. */
  routeAt(text: string, index: number, end: number): number;
  /** Where the character at `index` ends. */
  nextOf(text: string, index: number, end: number): number;
  /** Where the character that ends before `index` starts. */
  previousOf(text: string, index: number, start: number): number;
  /** Bits of `SPECIAL`; 0 for a character that has a plain route. */
  flagsOf(route: number): number;
  /**
   * Whether the character at `index` extends the cluster before it, unless a control character is
   * there.
   */
  attaches(text: string, index: number): boolean;
  /**
   * The end of the cluster that starts at `index`, when it has marks and at most
   * `CLUSTER_BYTES_MAX` bytes. Otherwise the end of its first character.
   */
  endOfShortCluster(text: string, index: number, end: number): number;
  /**
   * Whether the unit before `index` and the mark there are certainly a cluster of at most five
   * bytes. False when the slow path must decide.
   */
  isLonePair(text: string, index: number, start: number, end: number): boolean;
  /** Whether the character at `index` belongs to the cluster of the one before it. */
  isAttached(text: string, index: number, start: number): boolean;
}

/** @param tables borrowed. */
export function createCharacterLookup(tables: TokenizerTables): CharacterLookup {
  const { unitRoutes, astralPages, astralRoutes, specialFlags } = tables;

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
    if (route === ROUTE.blank) return SPECIAL.control | SPECIAL.mapped;
    return specialFlags[route - ROUTE.special];
  }

  function routeAt(text: string, index: number, end: number): number {
    if (nextOf(text, index, end) === index + 1) {
      const route = unitRoutes[text.charCodeAt(index)];
      return route === ROUTE.surrogate ? unitRoutes[REPLACEMENT_CHARACTER] : route;
    }
    const offset = (text.codePointAt(index) ?? 0) - 0x10000;
    return astralRoutes[astralPages[offset >>> 8] * 256 + (offset & 0xff)];
  }

  function attaches(text: string, index: number): boolean {
    return (graphemeOf(tables, text.codePointAt(index) ?? 0) & GRAPHEME.attaches) !== 0;
  }

  function endOfShortCluster(text: string, index: number, end: number): number {
    const afterFirst = nextOf(text, index, end);
    let at = afterFirst;
    let bytes = byteLength(text, index, afterFirst);
    while (at < end && attaches(text, at)) {
      const next = nextOf(text, at, end);
      bytes += byteLength(text, at, next);
      if (bytes > CLUSTER_BYTES_MAX) return afterFirst;
      at = next;
    }
    return at;
  }

  /**
   * Whether, going back from `index` over marks with the bit `passes`, a character with the bit
   * `target` is met; and on the way a mark with the bit `needs`, unless that is 0.
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
      const grapheme = graphemeOf(tables, text.codePointAt(at) ?? 0);
      if (grapheme & bits.needs) isMet = true;
      if ((grapheme & bits.passes) === 0) return isMet && (grapheme & bits.target) !== 0;
    }
    return false;
  }

  return {
    attaches,
    endOfShortCluster,
    routeAt,
    nextOf,
    previousOf,
    flagsOf,
    isLonePair(text, index, start, end) {
      const first = text.charCodeAt(index - 1);
      if (first >= 0x800 || text.charCodeAt(index) >= 0x800) return false;
      if (graphemeOf(tables, first) !== 0) return false;
      const before = index - 1 === start ? 0 : text.charCodeAt(index - 2);
      const next = index + 1 === end ? 0 : text.charCodeAt(index + 1);
      // The table is asked only of what lies beyond the letters and marks of Europe.
      if (before >= PREPEND_FIRST) {
        if (isSurrogate(before) || graphemeOf(tables, before) & GRAPHEME.prepend) return false;
      }
      if (next < MARK_FIRST) return true;
      return !isSurrogate(next) && (graphemeOf(tables, next) & GRAPHEME.attaches) === 0;
    },
    isAttached(text, index, start) {
      if (index <= start) return false;
      const before = previousOf(text, index, start);
      const beforeBits = graphemeOf(tables, text.codePointAt(before) ?? 0);
      const bits = graphemeOf(tables, text.codePointAt(index) ?? 0);
      if ((beforeBits | bits) & GRAPHEME.control) return false;
      if (bits & GRAPHEME.attaches) return true;
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

function isSurrogate(unit: number): boolean {
  return (unit & 0xf800) === 0xd800;
}

/** UTF-8 bytes of one character. */
function byteLength(text: string, index: number, next: number): number {
  if (next - index === 2) return 4;
  const unit = text.charCodeAt(index);
  if (unit < 0x80) return 1;
  return unit < 0x800 ? 2 : 3;
}

/** Code points from `index` to before `end`. */
export function countCharacters(text: string, index: number, end: number): number {
  let count = 0;
  for (let at = index; at < end; count++) at += (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
  return count;
}

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

/** The fast path for most special characters: one code, found without their clusters. */
export interface FastPath {
  /**
   * The code of the special character at `index`, when it has exactly one. `~code` when that code
   * replaces the character before it too. `NO_CODE` when the slow path must decide.
   */
  codeAt(text: string, index: number, start: number, end: number): number;
}

/** Neither a code nor the complement of one. */
export const NO_CODE = 0x10000;

/** @param tables borrowed. */
export function createFastPath(tables: TokenizerTables, lookup: CharacterLookup): FastPath {
  const { unitRoutes, specialFlags, specialCodes, specialSpans, replacements } = tables;

  /** The one code that a span of replacements is, or -1. */
  function onlyCode(span: number): number {
    const code = replacements[span >>> 8];
    return (span & 0xff) === 1 && code < ROUTE.special ? code : -1;
  }

  return {
    codeAt(text, index, start, end) {
      const unit = text.charCodeAt(index);
      const special = unitRoutes[unit] - ROUTE.special;
      const flags = specialFlags[special];
      if (flags === SPECIAL.second) {
        // What comes first in a pair has a plain route.
        const before = index === start ? 0 : text.charCodeAt(index - 1);
        const span = unitRoutes[before] >= ROUTE.special ? -1 : findPair(tables, before, unit);
        if (span === -1) return specialCodes[special];
        const code = onlyCode(span);
        return code !== -1 && lookup.isLonePair(text, index, start, end) ? ~code : NO_CODE;
      }
      if (flags !== SPECIAL.mapped) return NO_CODE;
      const code = onlyCode(specialSpans[special]);
      const isAlone = index + 1 === end || !lookup.attaches(text, index + 1);
      return code !== -1 && isAlone ? code : NO_CODE;
    },
  };
}
