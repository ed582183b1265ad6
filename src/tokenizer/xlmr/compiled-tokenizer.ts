import { invariant } from '../../base/errors.ts';
import type { TokenOffsets } from './alignment.ts';
import type { AddedToken, TokenizerTables } from './compiled-format.ts';
import { createPieceDecoder } from './piece-text.ts';
import { createSegmentEncoder } from './segment-encoder.ts';
import { createTokenIds, reserveTokenIds, type TokenIds } from './unigram-search.ts';

/** How a text becomes ids. */
export interface EncodeOptions {
  /**
   * Most ids to keep, the template's included. At least as many as the template adds.
   */
  readonly tokenCountMax: number;
  /** The side of the text that is cut off when it is too long. */
  readonly truncationSide: 'left' | 'right';
  /** Whether to put the template's tokens (`<s>`, `</s>`) around the text. */
  readonly specialTokens: boolean;
}

/** The token ids of some texts, one text after the other. */
export interface EncodedTexts {
  /** The kept ids of all texts. */
  readonly tokenIds: Int32Array<ArrayBuffer>;
  /** How many ids each text kept; their sum is the length of `tokenIds`. */
  readonly keptCounts: Int32Array<ArrayBuffer>;
  /** How many ids each text has without truncation. */
  readonly fullCounts: Int32Array<ArrayBuffer>;
}

/** How long a text is, in tokens. */
export interface TokenCounts {
  /** Ids kept. */
  readonly keptCount: number;
  /**
   * Ids of the whole text, the template's included. More than `keptCount` when it was truncated.
   */
  readonly fullCount: number;
}

/**
 * A text's kept ids and where each comes from. The arrays have one length and belong to the caller.
 */
export interface EncodedText extends TokenCounts {
  readonly tokenIds: Int32Array;
  /**
   * UTF-16 units of the text: from `starts[i]` to before `stops[i]`. Both are 0 for the template's
   * tokens.
   */
  readonly starts: Int32Array;
  readonly stops: Int32Array;
  /** 1 for the template's tokens, 0 for the text's, even where the text spells a special token. */
  readonly special: Uint8Array;
}

/**
 * The tokenizer of one thread, over tables that all threads share. Its ids, truncation, offsets and
 * decoding are those of the reference, `tokenizers` in Rust. It keeps working memory and is not
 * reentrant: one instance serves one text at a time.
 */
export interface CompiledTokenizer {
  /**
   * Appends a text's ids to `out`. Once `out` has grown, only the result is allocated. Time is
   * linear in the text, whatever is in it. A lone surrogate counts as U+FFFD.
   */
  encode(text: string, options: EncodeOptions & { readonly out: TokenIds }): TokenCounts;
  /** The ids of several texts. The result belongs to the caller. */
  encodeTexts(texts: readonly string[], options: EncodeOptions): EncodedTexts;
  /** As `encode`, with offsets; several times slower. */
  encodeWithOffsets(text: string, options: EncodeOptions): EncodedText;
  /** The text of token ids. Ids outside the vocabulary are skipped. */
  decode(tokenIds: ArrayLike<number>, options: { readonly skipSpecialTokens: boolean }): string;
  /** The piece with this id, with `▁` for a space; `null` outside the vocabulary. */
  pieceOf(id: number): string | null;
  /** Whether this id is that of a special token. */
  isSpecial(id: number): boolean;
  /** Ids run from 0 to before this. */
  readonly vocabularySize: number;
  /** How many tokens the template adds to a text. */
  readonly templateCount: number;
}

/**
 * After a text of so many UTF-16 units or more, working memory is freed at once. Its ids stay with
 * `out`.
 */
const TEXT_LENGTH_LARGE = 65_536;

/** Ids kept between calls: as many as a large message holds, so that a usual one grows nothing. */
const ID_CAPACITY = 16_384;

/**
 * @param tables borrowed for as long as the tokenizer lives.
 * @param options `remembersWords`, default true: a cache of 600 kB for the ids of frequent words.
 *   The ids are the same without it.
 */
export function createCompiledTokenizer(
  tables: TokenizerTables,
  options: { readonly remembersWords?: boolean } = {},
): CompiledTokenizer {
  const { addedTokens, vocabularySize } = tables.meta;
  const before = Int32Array.from(tables.meta.template.before);
  const after = Int32Array.from(tables.meta.template.after);
  const templateCount = before.length + after.length;
  const segments = createSegmentEncoder(tables, {
    remembersWords: options.remembersWords ?? true,
  });
  const finder = createAddedTokenFinder(addedTokens);
  const decoder = createPieceDecoder(tables);

  /** Appends the ids of the whole text, without the template. */
  function appendText(text: string, out: TokenIds, offsets: TokenOffsets | null): void {
    finder.begin(text);
    let from = 0;
    for (let match = finder.next(); match !== null; match = finder.next()) {
      appendSegment(text, from, match.start, out, offsets);
      appendId(out, match.token.id);
      if (offsets !== null) {
        appendId(offsets.starts, match.start);
        appendId(offsets.stops, match.stop);
      }
      from = match.stop;
    }
    appendSegment(text, from, text.length, out, offsets);
    if (text.length >= TEXT_LENGTH_LARGE) segments.shrink();
  }

  function appendSegment(
    text: string,
    start: number,
    end: number,
    out: TokenIds,
    offsets: TokenOffsets | null,
  ): void {
    if (start === end) return;
    if (offsets === null) segments.append(text, start, end, out);
    else segments.appendAligned(text, start, end, out, offsets);
  }

  function roomFor(options: EncodeOptions): number {
    const room = options.tokenCountMax - (options.specialTokens ? templateCount : 0);
    invariant(room >= 0, `tokenCountMax ${options.tokenCountMax} is below the template's count`);
    return room;
  }

  function encode(text: string, options: EncodeOptions & { readonly out: TokenIds }): TokenCounts {
    const { out } = options;
    const room = roomFor(options);
    const first = out.length;
    if (options.specialTokens) appendAll(out, before);
    const textStart = out.length;
    appendText(text, out, null);
    const textCount = out.length - textStart;
    truncate(out, textStart, room, options.truncationSide);
    if (options.specialTokens) appendAll(out, after);
    const added = options.specialTokens ? templateCount : 0;
    return { keptCount: out.length - first, fullCount: textCount + added };
  }

  /** The ids of `encodeTexts`, kept between calls. */
  let gathered: TokenIds | undefined;

  function encodeTexts(texts: readonly string[], options: EncodeOptions): EncodedTexts {
    const keptCounts = new Int32Array(texts.length);
    const fullCounts = new Int32Array(texts.length);
    gathered ??= createTokenIds(ID_CAPACITY);
    gathered.length = 0;
    const each = { ...options, out: gathered };
    for (let index = 0; index < texts.length; index++) {
      const { keptCount, fullCount } = encode(texts[index], each);
      keptCounts[index] = keptCount;
      fullCounts[index] = fullCount;
    }
    const tokenIds = gathered.ids.slice(0, gathered.length) as Int32Array<ArrayBuffer>;
    // A book leaves a large buffer behind; the next message seldom needs it.
    if (gathered.ids.length > ID_CAPACITY * 16) gathered = undefined;
    return { tokenIds, keptCounts, fullCounts };
  }

  return {
    vocabularySize,
    templateCount,
    encode,
    encodeTexts,
    encodeWithOffsets(text, options) {
      const room = roomFor(options);
      const lists = { ids: createTokenIds(), starts: createTokenIds(), stops: createTokenIds() };
      appendText(text, lists.ids, lists);
      const textCount = lists.ids.length;
      for (const list of [lists.ids, lists.starts, lists.stops]) {
        truncate(list, 0, room, options.truncationSide);
      }
      const left = options.specialTokens ? before : before.subarray(0, 0);
      const right = options.specialTokens ? after : after.subarray(0, 0);
      const keptText = lists.ids.length;
      const keptCount = left.length + keptText + right.length;
      const placed = (list: TokenIds): Int32Array => {
        const array = new Int32Array(keptCount);
        array.set(list.ids.subarray(0, keptText), left.length);
        return array;
      };
      const tokenIds = placed(lists.ids);
      tokenIds.set(left);
      tokenIds.set(right, left.length + keptText);
      const special = new Uint8Array(keptCount).fill(1);
      special.fill(0, left.length, left.length + keptText);
      const fullCount = textCount + left.length + right.length;
      return {
        tokenIds,
        starts: placed(lists.starts),
        stops: placed(lists.stops),
        special,
        keptCount,
        fullCount,
      };
    },
    decode: decoder.decode,
    pieceOf: decoder.pieceOf,
    isSpecial: decoder.isSpecial,
  };
}

function appendId(list: TokenIds, value: number): void {
  reserveTokenIds(list, 1);
  list.ids[list.length++] = value;
}

function appendAll(list: TokenIds, values: Int32Array): void {
  reserveTokenIds(list, values.length);
  for (let index = 0; index < values.length; index++) {
    list.ids[list.length++] = values[index];
  }
}

/**
 * Keeps at most `room` of the values from `start` on: the first ones, or the last ones when the
 * left side is cut.
 */
function truncate(list: TokenIds, start: number, room: number, side: 'left' | 'right'): void {
  const excess = list.length - start - room;
  if (excess <= 0) return;
  if (side === 'left') list.ids.copyWithin(start, start + excess, list.length);
  list.length -= excess;
}

/** An added token found in a text, with the white space that belongs to it. */
export interface AddedMatch {
  readonly token: AddedToken;
  readonly start: number;
  readonly stop: number;
}

/** Finds the added tokens of one text after the other. */
export interface AddedTokenFinder {
  /** Starts on a new text. */
  begin(text: string): void;
  /** The match that starts first, or null. Of several at one place, the longest. */
  next(): AddedMatch | null;
}

/**
 * Finds added tokens in the original text. Nearly every text has none. So it searches for the first
 * characters of tokens, which `indexOf` does fast, and remembers where each was last found: every
 * part of the text is searched once.
 */
export function createAddedTokenFinder(tokens: readonly AddedToken[]): AddedTokenFinder {
  const longestFirst = [...tokens].sort((a, b) => b.content.length - a.content.length);
  const initials = [...new Set(longestFirst.map((token) => token.content.charCodeAt(0)))];
  const initialTexts = initials.map((unit) => String.fromCharCode(unit));
  /** 1 for a unit that may be second in a token; for all units when a token has only one. */
  const isSecond = new Uint8Array(0x10000);
  for (const { content } of tokens) {
    if (content.length === 1) isSecond.fill(1);
    else isSecond[content.charCodeAt(1)] = 1;
  }
  const positions: number[] = [];
  let text = '';
  let from = 0;

  /** Where, from `position` on, a token with this initial may start; or -1. */
  function seek(index: number, position: number): number {
    const initial = initials[index];
    // In locals, because what a closure captures is read anew at every use.
    const whole = text;
    const seconds = isSecond;
    let at = position;
    let unit = whole.charCodeAt(at);
    while (true) {
      // In a run of them, looking at the next character is cheaper than a search.
      if (unit !== initial) {
        at = whole.indexOf(initialTexts[index], at);
        if (at === -1) return -1;
      }
      at++;
      if (at === whole.length) return at - 1;
      unit = whole.charCodeAt(at);
      if (seconds[unit] === 1) return at - 1;
    }
  }

  function nextCandidate(): number {
    let nearest = -1;
    for (let index = 0; index < initials.length; index++) {
      let position = positions[index];
      if (position !== -1 && position < from) {
        position = seek(index, from);
        positions[index] = position;
      }
      if (position !== -1 && (nearest === -1 || position < nearest)) nearest = position;
    }
    return nearest;
  }

  function tokenAt(at: number): AddedToken | undefined {
    for (const token of longestFirst) if (text.startsWith(token.content, at)) return token;
    return undefined;
  }

  return {
    begin(newText) {
      text = newText;
      from = 0;
      for (let index = 0; index < initials.length; index++) {
        positions[index] = seek(index, 0);
      }
    },
    next() {
      const floor = from;
      for (let at = nextCandidate(); at !== -1; at = nextCandidate()) {
        const token = tokenAt(at);
        if (token === undefined) {
          from = at + 1;
          continue;
        }
        let start = at;
        let stop = at + token.content.length;
        // The search goes on behind the token: white space after it may belong to the next one.
        from = stop;
        if (token.stripsLeft) {
          while (start > floor && isWhiteSpace(text.charCodeAt(start - 1))) start--;
        }
        if (token.stripsRight) {
          while (stop < text.length && isWhiteSpace(text.charCodeAt(stop))) stop++;
          from = stop;
        }
        return { token, start, stop };
      }
      return null;
    },
  };
}

/**
 * White space as the reference's regular expressions see it. JavaScript's `\s` differs in U+0085
 * and U+FEFF.
 */
function isWhiteSpace(unit: number): boolean {
  if (unit < 0x80) return unit === 0x20 || (unit >= 0x09 && unit <= 0x0d);
  return /[\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/.test(
    String.fromCharCode(unit),
  );
}
