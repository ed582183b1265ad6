import { TokenizerUnsupportedError } from '../tokenizer-error.ts';
import { GRAPHEME, type GraphemeTable, graphemeOf } from '../xlmr/character-lookup.ts';
import type { TokenizerTables } from '../xlmr/compiled-format.ts';
import { packPairs, ROUTE, SPECIAL } from '../xlmr/route.ts';
import type { Charsmap } from './charsmap.ts';
import { GRAPHEME_TABLE } from './grapheme-table.ts';

/** What the tables are made from; all borrowed. */
export interface CharacterTablesOptions {
  readonly charsmap: Charsmap;
  /** Code of each character in the piece trie, from 1. */
  readonly codeOf: ReadonlyMap<string, number>;
  readonly mark: string;
  readonly collapsesSpaces: boolean;
}

type CharacterTables = Pick<
  TokenizerTables,
  | 'unitRoutes'
  | 'astralPages'
  | 'astralRoutes'
  | 'specialFlags'
  | 'specialCodes'
  | 'specialSpans'
  | 'replacements'
  | 'pairKeys'
  | 'pairSpans'
  | 'graphemePages'
  | 'graphemeBits'
>;

/** Bits of `GRAPHEME` of a code point. */
type ClassOf = (codePoint: number) => number;

const SPACE = 0x20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const PAGE_SIZE = 256;

/**
 * Folds the charsmap, the grapheme classes and the alphabet into one table by character.
 *
 * @throws TokenizerUnsupportedError for a charsmap in which clusters matter that the encoder does
 *   not look at.
 */
export function buildCharacterTables(
  options: CharacterTablesOptions,
): CharacterTables & { readonly wideSpaceRoute: number } {
  const { charsmap, codeOf, mark, collapsesSpaces } = options;
  const graphemes = readGraphemeTable();
  const classOf = (codePoint: number): number => graphemeOf(graphemes, codePoint);
  const spaceRoute = collapsesSpaces ? ROUTE.space : ROUTE.mark;
  const replacements = createReplacements((character) => {
    if (character === ' ') return spaceRoute;
    return character === mark ? ROUTE.mark : (codeOf.get(character) ?? 0);
  });
  const pairs = reachablePairs(charsmap, classOf, mark);
  checkSingles(charsmap, classOf);
  const seconds = new Set([...pairs.keys()].map((key) => key & 0xffff));
  const specials = createSpecials();
  const blanks = new Set(collapsesSpaces ? blankControls(charsmap, classOf) : []);

  const routeOf = (codePoint: number): number => {
    const character = String.fromCodePoint(codePoint);
    if (codePoint === SPACE) return spaceRoute;
    const replacement = charsmap.singles.get(codePoint);
    if (character === mark && replacement === undefined) return ROUTE.mark;
    const bits = classOf(codePoint);
    if (blanks.has(codePoint)) return ROUTE.blank;
    const flags =
      (replacement === undefined ? 0 : SPECIAL.mapped) |
      (replacement !== undefined && bits & GRAPHEME.control ? SPECIAL.control : 0) |
      (seconds.has(codePoint) ? SPECIAL.second : 0);
    const code = codeOf.get(character) ?? 0;
    if (flags === 0) return code;
    // The code of a character that is always replaced plays no part: equal entries then meet.
    if (replacement === undefined) return specials.add(flags, code, 0);
    return specials.add(flags, 0, replacements.add(replacement));
  };

  const unitRoutes = Uint16Array.from({ length: 0x10000 }, (_, unit) =>
    unit >= 0xd800 && unit <= 0xdfff ? ROUTE.surrogate : routeOf(unit),
  );
  const spans = new Map([...pairs].map(([key, text]) => [key, replacements.add(text)]));
  const known = [...codeOf.keys()].map((character) => character.codePointAt(0) ?? 0);
  const wideSpaceRoute = collapsesSpaces
    ? specials.add(SPECIAL.mapped, 0, replacements.add(' '))
    : -1;
  return {
    wideSpaceRoute,
    unitRoutes,
    ...buildAstralPages(routeOf, [...known, ...charsmap.singles.keys()]),
    ...specials.arrays(),
    replacements: replacements.array(),
    ...packPairs(spans),
    ...graphemes,
  };
}

/**
 * Control characters that become one space. CR counts only where LF does, with which it may form a
 * cluster.
 */
function blankControls(charsmap: Charsmap, classOf: ClassOf): number[] {
  const blanks = [...charsmap.singles.keys()].filter(
    (codePoint) =>
      (classOf(codePoint) & GRAPHEME.control) !== 0 && charsmap.singles.get(codePoint) === ' ',
  );
  return blanks.includes(LINE_FEED) ? blanks : blanks.filter((c) => c !== CARRIAGE_RETURN);
}

/** Pairs that a cluster can begin with, as first × 65536 + second. */
function reachablePairs(charsmap: Charsmap, classOf: ClassOf, mark: string): Map<number, string> {
  const pairs = new Map<number, string>();
  for (const [text, replacement] of charsmap.pairs) {
    const [first = 0, second = 0] = Array.from(text, (c) => c.codePointAt(0) ?? 0);
    // Without a mark in second place the two never share a cluster that short, save after a
    // prepended mark, where the reference starts its lookup too early to find them.
    if ((classOf(second) & GRAPHEME.attaches) === 0) continue;
    const isUnsupported =
      (classOf(first) & (GRAPHEME.attaches | GRAPHEME.prepend | GRAPHEME.control)) !== 0 ||
      joinsAsHangulOrFlag(first) ||
      first === SPACE ||
      text.startsWith(mark) ||
      replacement === '' ||
      Math.max(first, second) > 0xffff;
    if (isUnsupported) {
      throw new TokenizerUnsupportedError(`precompiled_charsmap: ${codePoints(text)}`);
    }
    pairs.set(first * 0x10000 + second, replacement);
  }
  return pairs;
}

/** Single replacements that would make clusters matter which the encoder takes for indifferent. */
function checkSingles(charsmap: Charsmap, classOf: ClassOf): void {
  for (const codePoint of charsmap.singles.keys()) {
    const bits = classOf(codePoint);
    const isShortPictograph = (bits & GRAPHEME.pictograph) !== 0 && codePoint < 0x800;
    const isUnsupported =
      codePoint === SPACE ||
      (bits & GRAPHEME.prepend) !== 0 ||
      isShortPictograph ||
      joinsAsHangulOrFlag(codePoint);
    if (isUnsupported) {
      throw new TokenizerUnsupportedError(
        `precompiled_charsmap: ${codePoints(String.fromCodePoint(codePoint))}`,
      );
    }
  }
}

function joinsAsHangulOrFlag(codePoint: number): boolean {
  return (
    (codePoint >= 0x1100 && codePoint <= 0x11ff) ||
    (codePoint >= 0xa960 && codePoint <= 0xa97f) ||
    (codePoint >= 0xac00 && codePoint <= 0xd7ff) ||
    (codePoint >= 0x1f1e6 && codePoint <= 0x1f1ff)
  );
}

function codePoints(text: string): string {
  return Array.from(text, (c) => `U+${(c.codePointAt(0) ?? 0).toString(16)}`).join(' ');
}

interface Replacements {
  /** @returns where the replacement stands: first × 256 + count. */
  add(text: string): number;
  array(): Uint16Array;
}

function createReplacements(codeOf: (character: string) => number): Replacements {
  const codes: number[] = [];
  const spans = new Map<string, number>();
  return {
    add(text) {
      const known = spans.get(text);
      if (known !== undefined) return known;
      const characters = [...text];
      if (characters.length > 0xff) {
        throw new TokenizerUnsupportedError('precompiled_charsmap: a very long replacement');
      }
      const span = codes.length * 0x100 + characters.length;
      codes.push(...characters.map(codeOf));
      spans.set(text, span);
      return span;
    },
    array: () => Uint16Array.from(codes),
  };
}

interface Specials {
  /** @returns the route of a character with these properties. */
  add(flags: number, code: number, span: number): number;
  arrays(): Pick<TokenizerTables, 'specialFlags' | 'specialCodes' | 'specialSpans'>;
}

function createSpecials(): Specials {
  const entries: { flags: number; code: number; span: number }[] = [];
  const routes = new Map<string, number>();
  return {
    add(flags, code, span) {
      const key = `${flags} ${code} ${span}`;
      const known = routes.get(key);
      if (known !== undefined) return known;
      const route = ROUTE.special + entries.length;
      if (route >= ROUTE.surrogate) {
        throw new TokenizerUnsupportedError('precompiled_charsmap: too many replacements');
      }
      entries.push({ flags, code, span });
      routes.set(key, route);
      return route;
    },
    arrays: () => ({
      specialFlags: Uint8Array.from(entries, (entry) => entry.flags),
      specialCodes: Uint16Array.from(entries, (entry) => entry.code),
      specialSpans: Uint32Array.from(entries, (entry) => entry.span),
    }),
  };
}

/**
 * @param codePoints all that have a route of their own; the rest of their pages is looked at too.
 */
function buildAstralPages(
  routeOf: (codePoint: number) => number,
  codePoints: readonly number[],
): Pick<TokenizerTables, 'astralPages' | 'astralRoutes'> {
  const astralPages = new Uint16Array(0x100000 / PAGE_SIZE);
  // Page 0 is that of all others: no piece has the characters, and nothing replaces them.
  const routes: number[] = new Array(PAGE_SIZE).fill(0);
  for (const codePoint of codePoints) {
    const page = (codePoint - 0x10000) >> 8;
    if (page < 0 || astralPages[page] !== 0) continue;
    astralPages[page] = routes.length / PAGE_SIZE;
    for (let index = 0; index < PAGE_SIZE; index++) {
      routes.push(routeOf(0x10000 + page * PAGE_SIZE + index));
    }
  }
  return { astralPages, astralRoutes: Uint16Array.from(routes) };
}

/** Unpacks the generated table of grapheme classes. */
function readGraphemeTable(): GraphemeTable {
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
