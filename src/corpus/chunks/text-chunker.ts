import type { TokenizerTables } from '../../tokenizer/xlmr/compiled-format.ts';
import {
  type CompiledTokenizer,
  createCompiledTokenizer,
} from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import { ROUTE } from '../../tokenizer/xlmr/route.ts';
import { createTokenIds } from '../../tokenizer/xlmr/unigram-search.ts';
import { BREAK, type BreakFinder, createBreakFinder, isBlank } from './breaks.ts';

/** A piece of a text: UTF-16 units from `start` to before `end`. */
export interface TextChunk {
  readonly start: number;
  readonly end: number;
  /** As the server counts it; undefined where nobody had to count. */
  readonly tokenCount: number | undefined;
}

/** Cuts texts into chunks by the tokens of a model. */
export interface TextChunker {
  /**
   * The chunks of a text, in order. Together they are the whole text, and none has more than
   * `tokensMax` tokens. Each step takes time in proportion to a chunk.
   */
  chunksOf(text: string): Generator<TextChunk, void, undefined>;
  /** Tokens of a text as the server counts them: prefix and special tokens included. */
  countOf(text: string): number;
  /** Tokens that are there without a text. */
  readonly baseCount: number;
}

/**
 * Units of a chunk, at most. Only blanks and removed characters have so few tokens, and a chunk of
 * millions of them would be more than a request may be.
 */
const CHUNK_UNITS_MAX = 1 << 20;

/** The part of a chunk in which its end is looked for: the last quarter. */
const LAST_PART = 0.75;

/** Units of a chunk that are new, at least, as a part of those that come again. */
const NEW_PART_LEAST = 0.25;

/** Units of a token, for the first guess of a text, and the most for any later one. */
const UNITS_PER_TOKEN = 4;
const UNITS_PER_TOKEN_MAX = 16;

/** Units behind the last place, so that the token over it is known whole. */
const TOKEN_UNITS = 64;

/** @param options.tables borrowed. */
export function createTextChunker(options: {
  tables: TokenizerTables;
  prefix: string;
  tokensMax: number;
  overlapTokens: number;
}): TextChunker {
  const { tables, prefix, tokensMax } = options;
  const tokenizer = createCompiledTokenizer(tables);
  const out = createTokenIds();
  const whole = { tokenCountMax: 2 ** 30, truncationSide: 'right', out } as const;
  const count = (text: string, specialTokens: boolean): number => {
    out.length = 0;
    return tokenizer.encode(text, { ...whole, specialTokens }).fullCount;
  };
  const tools: ChunkTools = {
    ...options,
    tokenizer,
    breaks: createBreakFinder(tables),
    countOf: (text) => count(prefix + text, true),
    countBare: (text) => count(text, false),
  };
  // A space in front of the first word, and the text's units.
  const shortMax = tokensMax - tokenizer.templateCount - 1 - prefix.length;
  const { unitRoutes, meta } = tables;
  const hasBound = meta.addedTokens.every(({ content }) => content.length > 1) && isPlain(prefix);

  /** Whether no unit can become more than one token. */
  function isPlain(text: string): boolean {
    for (let index = 0; index < text.length; index++) {
      const route = unitRoutes[text.charCodeAt(index)] as number;
      if (route >= ROUTE.special && route < ROUTE.blank) return false;
    }
    return true;
  }

  return {
    countOf: tools.countOf,
    baseCount: tools.countOf(''),
    *chunksOf(text) {
      const isShort = hasBound && text.length <= shortMax && isPlain(text);
      if (isShort) yield { start: 0, end: text.length, tokenCount: undefined };
      else yield* new ChunkedText(text, tools).chunks();
    },
  };
}

interface ChunkTools {
  readonly tokenizer: CompiledTokenizer;
  readonly breaks: BreakFinder;
  readonly tokensMax: number;
  readonly overlapTokens: number;
  countOf(text: string): number;
  countBare(text: string): number;
}

/** One text while it is cut. */
class ChunkedText {
  readonly #text: string;
  readonly #tools: ChunkTools;
  /** Blanks at the end are no chunk of their own: a blank text has no vector. */
  readonly #contentEnd: number;
  /** Units that the last chunk had room for. */
  #width: number;

  constructor(text: string, tools: ChunkTools) {
    this.#text = text;
    this.#tools = tools;
    this.#contentEnd = text.trimEnd().length;
    this.#width = tools.tokensMax * UNITS_PER_TOKEN;
  }

  *chunks(): Generator<TextChunk, void, undefined> {
    let chunk = this.#chunkFrom(0);
    yield chunk;
    while (chunk.end < this.#text.length) {
      const { end } = chunk;
      const start = this.#overlapStart(chunk);
      chunk = this.#chunkFrom(start);
      // What comes again may leave too little room for what is new: blanks have no tokens.
      if (chunk.end - end < (end - start) * NEW_PART_LEAST) chunk = this.#chunkFrom(end);
      yield chunk;
    }
  }

  #chunkFrom(start: number): TextChunk {
    const text = this.#text;
    const { tokensMax, countOf, countBare } = this.#tools;
    const rest = text.length - start;
    const reach = widestThatFits({
      max: tokensMax,
      widthMax: Math.min(rest, CHUNK_UNITS_MAX),
      guess: this.#width,
      measure: measureFrom((from, to) => {
        const piece = text.slice(start + from, start + to);
        return from === 0 ? countOf(piece) : countBare(piece);
      }),
    });
    const { width } = reach;
    if (width === rest) {
      const tokenCount = countOf(text.slice(start));
      if (tokenCount <= tokensMax) return { start, end: text.length, tokenCount };
    }
    this.#width = Math.min(Math.max(width, tokensMax), tokensMax * UNITS_PER_TOKEN_MAX);
    let last = start + width;
    if (this.#contentEnd > start + 1) last = Math.min(last, this.#contentEnd - 1);
    for (;;) {
      const end = this.#endWithin(start, last);
      const tokenCount = countOf(text.slice(start, end));
      // A word that is cut may have more tokens than the same letters had in the whole one.
      if (tokenCount <= tokensMax) return { start, end, tokenCount };
      last = end - 1;
    }
  }

  /** The best end of a chunk after `start`, up to `last`. */
  #endWithin(start: number, last: number): number {
    const text = this.#text;
    let content = last;
    // Blanks that go over the last place stand before the next chunk.
    while (content > start && isBlank(text.charCodeAt(content - 1))) content--;
    if (content === start) return last;
    const from = start + Math.floor((content - start) * LAST_PART);
    let best: number = BREAK.none;
    let end = content;
    for (let at = content; at > from && best < BREAK.paragraph; at--) {
      const level = this.#tools.breaks.levelAt(text, at);
      if (level <= best || !this.#tools.breaks.isBoundary(text, at, start)) continue;
      best = level;
      end = at;
    }
    return best > BREAK.none ? end : this.#tokenEnd(start, from, content);
  }

  /** The last end of a token up to `last`; of a cluster or a character where there is none. */
  #tokenEnd(start: number, from: number, last: number): number {
    const text = this.#text;
    const { breaks, tokenizer } = this.#tools;
    // The space makes up for the one that each text begins with.
    const { stops } = tokenizer.encodeWithOffsets(` ${text.slice(from, last + TOKEN_UNITS)}`, {
      tokenCountMax: 2 ** 30,
      truncationSide: 'right',
      specialTokens: false,
    });
    for (let index = stops.length - 1; index >= 0; index--) {
      const at = from + (stops[index] as number) - 1;
      if (at <= from) break;
      if (at <= last && breaks.isBoundary(text, at, start)) return at;
    }
    for (let at = last; at > start; at--) if (breaks.isBoundary(text, at, start)) return at;
    const splitsPair = (text.codePointAt(last - 1) ?? 0) > 0xffff;
    if (!splitsPair) return last;
    return last - 1 > start ? last - 1 : last + 1;
  }

  /** Where the next chunk begins: `overlapTokens` before the end of this one, or a little later. */
  #overlapStart({ start, end, tokenCount = 1 }: TextChunk): number {
    const text = this.#text;
    const { overlapTokens, countBare, breaks } = this.#tools;
    if (overlapTokens === 0) return end;
    const { width } = widestThatFits({
      max: overlapTokens,
      widthMax: end - start - 1,
      guess: Math.ceil((overlapTokens * (end - start)) / tokenCount),
      measure: (units) => countBare(text.slice(end - units, end)),
    });
    const first = end - width;
    let best: number = BREAK.none;
    let found = end;
    for (let at = first; at < end; at++) {
      // Beyond the half any white space will do.
      if (best > BREAK.none && at > first + width / 2) break;
      const level = breaks.levelAt(text, at);
      if (level <= best || !breaks.isBoundary(text, at, start)) continue;
      best = level;
      found = at;
    }
    if (best > BREAK.none) return found;
    let at = first;
    while (at < end && !breaks.isBoundary(text, at, start)) at++;
    return at;
  }
}

/**
 * Counts again what has come or gone since the last width alone. Where that cuts a word, it is a
 * token or two out: whoever wants to know counts once more.
 */
function measureFrom(count: (from: number, to: number) => number): (width: number) => number {
  let known = { width: 0, tokens: 0 };
  return (width) => {
    const [from, to] = [known.width, width].toSorted((left, right) => left - right) as [
      number,
      number,
    ];
    const isNear = from > 0 && (to - from) * 2 < width;
    const difference = isNear ? count(from, to) : 0;
    const signed = width < known.width ? -difference : difference;
    known = { width, tokens: isNear ? known.tokens + signed : count(0, width) };
    return known.tokens;
  };
}

/** Proportion finds it in two tries as a rule; after so many the range is halved. */
const PROPORTIONAL_TRIES = 4;

/**
 * The largest width of which no more than `max` tokens come, or one that has nearly as many: within
 * a sixteenth.
 *
 * @returns width 0 where not even one unit fits.
 */
function widestThatFits(options: {
  max: number;
  widthMax: number;
  guess: number;
  measure: (width: number) => number;
}): { width: number; tokens: number } {
  const { max, widthMax, guess, measure } = options;
  const enough = max - (max >> 4);
  const wanted = max - (max >> 5);
  let fits = { width: 0, tokens: 0 };
  let over = widthMax + 1;
  let width = Math.min(guess, widthMax);
  for (let tries = 1; over - fits.width > 1; tries++) {
    const tokens = measure(width);
    if (tokens <= max) {
      fits = { width, tokens };
      if (tokens >= enough) break;
    } else over = width;
    const ratio = Math.min(4, wanted / Math.max(1, tokens));
    width = Math.min(Math.round(width * ratio), widthMax);
    const isWithin = width > fits.width && width < over;
    if (tries > PROPORTIONAL_TRIES && over <= widthMax) width = (fits.width + over) >> 1;
    else if (!isWithin) width = over > widthMax ? widthMax : (fits.width + over) >> 1;
  }
  return fits;
}
