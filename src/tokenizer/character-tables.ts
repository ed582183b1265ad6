import type { Charsmap } from './charsmap.ts';
import type { TokenizerTables } from './compiled-format.ts';
import { GRAPHEME, readGraphemeRanges } from './grapheme-class.ts';
import { ROUTE, SPECIAL } from './route.ts';
import { TokenizerUnsupportedError } from './tokenizer-error.ts';

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
  | 'graphemeStarts'
  | 'graphemeBits'
>;

const SPACE = 0x20;
const PAGE_SIZE = 256;

/**
 * Folds the charsmap, the grapheme classes and the alphabet into one table by character.
 *
 * @throws TokenizerUnsupportedError for a charsmap in which clusters matter that the encoder does not look at.
 */
export function buildCharacterTables(options: CharacterTablesOptions): CharacterTables {
  const { charsmap, codeOf, mark, collapsesSpaces } = options;
  const ranges = readGraphemeRanges();
  const classes = expandRanges(ranges.starts, ranges.bits);
  const spaceRoute = collapsesSpaces ? ROUTE.space : ROUTE.mark;
  const replacements = createReplacements((character) => {
    if (character === ' ') return spaceRoute;
    return character === mark ? ROUTE.mark : (codeOf.get(character) ?? 0);
  });
  const pairs = reachablePairs(charsmap, classes, mark);
  checkSingles(charsmap, classes);
  const seconds = new Set([...pairs.keys()].map((key) => key & 0xffff));
  const specials = createSpecials();

  const routeOf = (codePoint: number): number => {
    const character = String.fromCodePoint(codePoint);
    if (codePoint === SPACE) return spaceRoute;
    const replacement = charsmap.singles.get(codePoint);
    if (character === mark && replacement === undefined) return ROUTE.mark;
    const bits = classes[codePoint] ?? 0;
    const flags =
      (bits & GRAPHEME.attaches ? SPECIAL.attaches : 0) |
      (bits & GRAPHEME.control ? SPECIAL.control : 0) |
      (replacement === undefined ? 0 : SPECIAL.mapped) |
      (seconds.has(codePoint) ? SPECIAL.second : 0);
    const code = codeOf.get(character) ?? 0;
    if (flags === 0) return code;
    return specials.add(flags, code, replacement === undefined ? 0 : replacements.add(replacement));
  };

  // A lone surrogate reaches the reference as U+FFFD.
  const unitRoutes = Uint16Array.from({ length: 0x10000 }, (_, unit) =>
    routeOf(unit >= 0xd800 && unit <= 0xdfff ? 0xfffd : unit),
  );
  const sortedPairs = [...pairs].sort(([a], [b]) => a - b);
  const pairSpans = sortedPairs.map(([, replacement]) => replacements.add(replacement));
  return {
    unitRoutes,
    ...buildAstralPages(routeOf),
    ...specials.arrays(),
    replacements: replacements.array(),
    pairKeys: Uint32Array.from(sortedPairs, ([key]) => key),
    pairSpans: Uint32Array.from(pairSpans),
    graphemeStarts: ranges.starts,
    graphemeBits: ranges.bits,
  };
}

function expandRanges(starts: Uint32Array, bits: Uint16Array): Uint16Array {
  const classes = new Uint16Array(0x110000);
  for (const [index, start] of starts.entries()) {
    classes.fill(bits[index] ?? 0, start, starts[index + 1] ?? classes.length);
  }
  return classes;
}

/** Pairs that a cluster can begin with, as first × 65536 + second. */
function reachablePairs(
  charsmap: Charsmap,
  classes: Uint16Array,
  mark: string,
): Map<number, string> {
  const pairs = new Map<number, string>();
  for (const [text, replacement] of charsmap.pairs) {
    const [first = 0, second = 0] = Array.from(text, (c) => c.codePointAt(0) ?? 0);
    // Without a mark in second place the two never share a cluster that short, save after a prepended mark, where the
    // reference starts its lookup too early to find them.
    if (((classes[second] ?? 0) & GRAPHEME.attaches) === 0) continue;
    const isUnsupported =
      ((classes[first] ?? 0) & (GRAPHEME.attaches | GRAPHEME.prepend | GRAPHEME.control)) !== 0 ||
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
function checkSingles(charsmap: Charsmap, classes: Uint16Array): void {
  for (const codePoint of charsmap.singles.keys()) {
    const bits = classes[codePoint] ?? 0;
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
      if (route >= ROUTE.mark) {
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

function buildAstralPages(
  routeOf: (codePoint: number) => number,
): Pick<TokenizerTables, 'astralPages' | 'astralRoutes'> {
  const pages = new Map<string, number>();
  const routes: number[] = [];
  const astralPages = Uint16Array.from({ length: 0x100000 / PAGE_SIZE }, (_, page) => {
    const content = Array.from({ length: PAGE_SIZE }, (_, index) =>
      routeOf(0x10000 + page * PAGE_SIZE + index),
    );
    const key = content.join();
    const known = pages.get(key);
    if (known !== undefined) return known;
    const added = pages.size;
    pages.set(key, added);
    routes.push(...content);
    return added;
  });
  return { astralPages, astralRoutes: Uint16Array.from(routes) };
}
