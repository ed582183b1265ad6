import { createAlignment, type TokenOffsets } from './alignment.ts';
import {
  countCharacters,
  createCharacterLookup,
  createFastPath,
  NO_CODE,
} from './character-lookup.ts';
import type { TokenizerTables } from './compiled-format.ts';
import { findPair, ROUTE, SPECIAL } from './route.ts';
import { createUnigramSearch, type TokenIds } from './unigram-search.ts';

/** How the current word began. A word that began by itself exists only once it has a code. */
const OPENED = { byItself: 0, bySpace: 1, byMark: 2 } as const;

/** Codes of one word before the array grows. */
const CODES_USUAL = 4096;

/** A longer array is given back after use. 128 kB. */
const CODES_KEPT = 65_536;

/** Turns segments of a text, which hold no added token, into ids. */
export interface SegmentEncoder {
  /** Appends the ids of `text` from `start` to before `end`. */
  append(text: string, start: number, end: number, out: TokenIds): void;
  /** As `append`, and appends to `at` where each id comes from. Several times slower. */
  appendAligned(text: string, start: number, end: number, out: TokenIds, at: TokenOffsets): void;
  /** Frees what a very long word left behind. */
  shrink(): void;
}

/**
 * The reference works in passes. It normalizes the text: cluster by cluster through the charsmap,
 * then runs of spaces. It cuts the text into words that start with the mark, and searches each
 * word's pieces. Here one pass does it all: a character's route gives its code in the trie, and a
 * space ends the word and searches it.
 *
 * Clusters matter to few characters. The pass looks at a cluster only for two kinds of character:
 * - A combining mark that the charsmap knows as a pair with the character before it, such as `e`
 *   and an acute. The pair's replacement takes the place of that character.
 * - A character with a replacement. When its cluster has at most five bytes, the replacement stands
 *   for the whole cluster and its marks are lost. The reference does that, and the models were
 *   trained with it. In longer clusters, and in those of characters without a replacement, every
 *   character counts by itself.
 */
export function createSegmentEncoder(
  tables: TokenizerTables,
  options: { readonly remembersWords: boolean },
): SegmentEncoder {
  const { unitRoutes, specialFlags, specialCodes, specialSpans, replacements } = tables;
  const { markCode, wideSpaceRoute } = tables.meta;
  const lookup = createCharacterLookup(tables);
  const fastPath = createFastPath(tables, lookup);
  const search = createUnigramSearch(tables, options);
  const alignment = createAlignment();

  // The current word. Its code at 0 is always the mark.
  let codes = new Uint16Array(CODES_USUAL).fill(markCode);
  let length = 1;
  let opened: number = OPENED.byItself;
  let out: TokenIds = { ids: new Int32Array(0), length: 0 };
  let text = '';
  let start = 0;
  let end = 0;
  /** Null while nobody asks for offsets. */
  let offsets: TokenOffsets | null = null;

  function begin(source: string, from: number, to: number, target: TokenIds): void {
    text = source;
    start = from;
    end = to;
    out = target;
    length = 1;
    opened = OPENED.byItself;
    reserveCodes(end - start + 1);
    if (offsets !== null) alignment.begin(text, start);
  }

  function reserveCodes(count: number): void {
    if (count <= codes.length) return;
    const grown = new Uint16Array(count * 2);
    grown.set(codes);
    codes = grown;
  }

  function finishWord(): void {
    const from = out.length;
    search.appendPieces(codes, length, out, offsets === null ? null : alignment.lengths);
    if (offsets !== null) alignment.finishWord(from, out.length, offsets);
  }

  function openWord(route: number): void {
    const isSpace = route === ROUTE.space;
    const isEmpty = length === 1 && opened === OPENED.byItself;
    const isRun = length === 1 && isSpace && opened === OPENED.bySpace;
    if (!isEmpty && !isRun) finishWord();
    length = 1;
    opened = isSpace ? OPENED.bySpace : OPENED.byMark;
    if (offsets !== null) alignment.place(0);
  }

  function put(code: number): void {
    if (code >= ROUTE.mark) openWord(code);
    else {
      codes[length++] = code;
      if (offsets !== null) placeLast();
    }
  }

  /** A word mark without a space in the text shares the place of the first code. */
  function placeLast(): void {
    alignment.place(length - 1);
    if (length === 2 && opened === OPENED.byItself) alignment.place(0);
  }

  /** Puts the replacement of `characterCount` characters, and reserves `rest` more codes. */
  function putReplacement(span: number, characterCount: number, rest: number): void {
    const first = span >>> 8;
    const count = span & 0xff;
    if (count > 1) reserveCodes(length + count + rest + 1);
    if (count === 0 && offsets !== null && alignment.remove(characterCount)) placeLast();
    for (let index = 0; index < count; index++) {
      if (offsets !== null) alignment.replace(index, count, characterCount);
      put(replacements[first + index]);
    }
  }

  /** Puts the character at `index`, or its cluster. @returns the index behind it. */
  function putAny(index: number): number {
    let route = unitRoutes[text.charCodeAt(index)];
    let next = index + 1;
    if (route === ROUTE.surrogate) {
      route = lookup.routeAt(text, index, end);
      next = lookup.nextOf(text, index, end);
    }
    if (route === ROUTE.blank) return putBlank(index);
    if (route >= ROUTE.special && route < ROUTE.surrogate) {
      return putSpecial(index, next, route);
    }
    if (offsets !== null) alignment.keep();
    put(route);
    return next;
  }

  /** Puts a character that has a special entry. */
  function putSpecial(index: number, next: number, route: number): number {
    const special = route - ROUTE.special;
    const flags = specialFlags[special];
    if (flags & SPECIAL.second && index > start) {
      const span = findPair(tables, text.charCodeAt(index - 1), text.charCodeAt(index));
      const merged = span === -1 ? -1 : putPair(index, span);
      if (merged !== -1) return merged;
    }
    if ((flags & SPECIAL.mapped) === 0) {
      if (offsets !== null) alignment.keep();
      put(specialCodes[special]);
      return next;
    }
    const span = specialSpans[special];
    const mayTakeMarks = (flags & SPECIAL.control) === 0 && next < end;
    if (mayTakeMarks && lookup.attaches(text, next)) {
      const clusterEnd = lookup.endOfShortCluster(text, index, end);
      if (clusterEnd > next && !lookup.isAttached(text, index, start)) {
        putReplacement(span, countCharacters(text, index, clusterEnd), end - clusterEnd);
        return clusterEnd;
      }
    }
    putReplacement(span, 1, end - next);
    return next;
  }

  /** Puts the space that a control character becomes; CR LF become one. */
  function putBlank(index: number): number {
    const isCrLf =
      text.charCodeAt(index) === 0x0d && index + 1 < end && text.charCodeAt(index + 1) === 0x0a;
    if (offsets !== null) alignment.replace(0, 1, isCrLf ? 2 : 1);
    openWord(ROUTE.space);
    return isCrLf ? index + 2 : index + 1;
  }

  /** Replaces the character before `index` and the mark there. @returns the next index, or -1. */
  function putPair(index: number, span: number): number {
    const first = index - 1;
    if (lookup.isAttached(text, first, start)) return -1;
    const clusterEnd = lookup.endOfShortCluster(text, first, end);
    if (clusterEnd === index) return -1;
    length--;
    if (offsets !== null) alignment.takeBack();
    putReplacement(span, countCharacters(text, first, clusterEnd), end - clusterEnd);
    return clusterEnd;
  }

  return {
    append(source, from, to, target) {
      begin(source, from, to, target);
      const routes = unitRoutes;
      let word = codes;
      let count = 1;
      for (let index = from; index < to; ) {
        const unit = source.charCodeAt(index);
        const route = routes[unit];
        if (route < ROUTE.special) {
          word[count++] = route;
          index++;
          continue;
        }
        const isSpace =
          route === ROUTE.space ||
          route === ROUTE.blank ||
          (route === wideSpaceRoute && (index + 1 === to || !lookup.attaches(source, index + 1)));
        if (isSpace) {
          if (count > 1 || opened === OPENED.byMark) search.appendPieces(word, count, target, null);
          count = 1;
          opened = OPENED.bySpace;
          index++;
          continue;
        }
        if (route === ROUTE.surrogate) {
          const whole = lookup.routeAt(source, index, to);
          if (whole < ROUTE.special) {
            word[count++] = whole;
            index = lookup.nextOf(source, index, to);
            continue;
          }
        } else if (route < ROUTE.surrogate) {
          const code = fastPath.codeAt(source, index, from, to);
          if (code !== NO_CODE) {
            if (code >= 0) word[count++] = code;
            else word[count - 1] = ~code;
            index++;
            continue;
          }
        }
        length = count;
        index = putAny(index);
        word = codes;
        count = length;
      }
      length = count;
      if (length > 1 || opened !== OPENED.byItself) finishWord();
    },
    appendAligned(source, from, to, target, into) {
      offsets = into;
      begin(source, from, to, target);
      for (let index = from; index < to; ) index = putAny(index);
      if (length > 1 || opened !== OPENED.byItself) finishWord();
      offsets = null;
    },
    shrink() {
      if (codes.length > CODES_KEPT) codes = new Uint16Array(CODES_USUAL).fill(markCode);
      search.shrink();
      alignment.shrink();
    },
  };
}
