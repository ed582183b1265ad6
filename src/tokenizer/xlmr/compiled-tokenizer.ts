import { invariant } from '../../base/errors.ts';
import { createAddedTokenFinder } from './added-tokens.ts';
import type { TokenOffsets } from './alignment.ts';
import { createTokenIds, reserveTokenIds, type TokenIds } from './alignment.ts';
import type { TokenizerTables } from './compiled-format.ts';
import { createPieceDecoder } from './piece-text.ts';
import { createSegmentEncoder } from './segment-encoder.ts';

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

  return {
    vocabularySize,
    templateCount,
    encode(text, options) {
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
    },
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
