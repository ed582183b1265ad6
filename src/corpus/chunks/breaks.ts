import { createCharacterLookup } from '../../tokenizer/xlmr/character-lookup.ts';
import type { TokenizerTables } from '../../tokenizer/xlmr/compiled-format.ts';

/** What a place in a text is good for, when the text is cut there: the higher, the better. */
export const BREAK = { none: 0, blank: 1, sentence: 2, line: 3, paragraph: 4 } as const;

/** Finds places where a text may be cut. Positions are UTF-16 units. */
export interface BreakFinder {
  /**
   * `BREAK` of the place before the unit at `index`. Blanks stand behind a break: in front of a
   * chunk they cost the tokenizer nothing, at its end they would be a token.
   */
  levelAt(text: string, index: number): number;
  /**
   * Whether no grapheme cluster, and so no code point, goes over the place.
   *
   * @param start where a cluster begins that is known; nothing before it is looked at.
   */
  isBoundary(text: string, index: number, start: number): boolean;
}

/**
 * Nothing here asks the runtime's ICU, which is another one on another system: the same text has
 * the same chunks everywhere.
 *
 * @param tables borrowed.
 */
export function createBreakFinder(tables: TokenizerTables): BreakFinder {
  const lookup = createCharacterLookup(tables);
  return {
    levelAt,
    isBoundary(text, index, start) {
      if (index <= start || index >= text.length) return true;
      const before = text.charCodeAt(index - 1);
      const unit = text.charCodeAt(index);
      if (before < MARK_FIRST && unit < MARK_FIRST) return before !== CR || unit !== LF;
      if (isHigh(before) && isLow(unit)) return false;
      if (joinsHangul(before, unit) || splitsFlag(text, index, start)) return false;
      return !lookup.isAttached(text, index, start);
    },
  };
}

const CR = 0x0d;
const LF = 0x0a;

/** The first character that extends a cluster. */
const MARK_FIRST = 0x300;

/**
 * White space where a line may be broken; the no-break spaces, which stand in « № 5 », are none.
 */
export function isBlank(unit: number): boolean {
  if (unit < 0x80) return unit === 0x20 || (unit >= 0x09 && unit <= 0x0d);
  if (unit < 0x1680) return unit === 0x85;
  if (unit >= 0x2000 && unit <= 0x200b) return unit !== 0x2007;
  return (
    unit === 0x2028 || unit === 0x2029 || unit === 0x205f || unit === 0x3000 || unit === 0x1680
  );
}

function levelAt(text: string, index: number): number {
  const before = text.charCodeAt(index - 1);
  const unit = text.charCodeAt(index);
  if (isBlank(unit)) {
    if (isBlank(before)) return BREAK.none;
    const lines = lineEndsAt(text, index);
    if (lines > 0) return lines > 1 ? BREAK.paragraph : BREAK.line;
    return endsSentence(text, index) ? BREAK.sentence : BREAK.blank;
  }
  // Chinese and Japanese have no blank behind a full stop.
  if (before < 0x2010 || CLOSERS.includes(text.charAt(index))) return BREAK.none;
  if (WIDE_STOPS.includes(text.charAt(behindClosers(text, index)))) return BREAK.sentence;
  return WIDE_COMMAS.includes(text.charAt(index - 1)) ? BREAK.blank : BREAK.none;
}

/** Ends of lines among the blanks from `index` on; more than one are counted as two. */
function lineEndsAt(text: string, index: number): number {
  let count = 0;
  for (let at = index; at < text.length && count < 2; at++) {
    const unit = text.charCodeAt(at);
    if (!isBlank(unit)) break;
    const isFeedOfPair = unit === LF && at > index && text.charCodeAt(at - 1) === CR;
    if (unit === 0x0c || unit === 0x2029) return 2;
    if ((unit === LF && !isFeedOfPair) || unit === CR || unit === 0x85 || unit === 0x2028) count++;
  }
  return count;
}

const CLOSERS = '"\'»”’)]}」』）】〉》〕';
const OPENERS = /^[\s"'«“‘„([{—–-]*/;
const WIDE_STOPS = '。！？｡．';
const WIDE_COMMAS = '，、；：';
const STOPS = `.!?…${WIDE_STOPS}؟۔।॥։።`;

/** How far is looked back for an abbreviation, and ahead over quotes. */
const LOOK_UNITS = 16;

/** Of one or two letters: « ст. », « г. », initials; or the number that begins a line. */
const NO_END = /(?:^|[^\p{L}\p{N}])\p{L}{1,2}$|(?:^|[\n\r\u2028\u2029])[ \t]*[\d.]*\d$/u;

/** The unit that stands before the quotes and brackets that end before `index`. */
function behindClosers(text: string, index: number): number {
  let at = index - 1;
  while (at > 0 && CLOSERS.includes(text.charAt(at))) at--;
  return at;
}

/** Whether a sentence ends before the blanks at `index`. */
function endsSentence(text: string, index: number): boolean {
  const at = behindClosers(text, index);
  const mark = text.charAt(at);
  if (!STOPS.includes(mark)) return false;
  const ahead = text.slice(index, index + LOOK_UNITS).replace(OPENERS, '');
  if (/^\p{Ll}/u.test(ahead)) return false;
  return mark !== '.' || !NO_END.test(text.slice(Math.max(0, at - LOOK_UNITS), at));
}

function isHigh(unit: number): boolean {
  return (unit & 0xfc00) === 0xd800;
}

function isLow(unit: number): boolean {
  return (unit & 0xfc00) === 0xdc00;
}

/** Parts of Hangul syllables, which the tokenizer's table of clusters leaves out. */
const HANGUL = { none: 0, lead: 1, vowel: 2, trail: 4 } as const;

function joinsHangul(before: number, unit: number): boolean {
  const next = hangulOf(unit);
  if (next === HANGUL.none) return false;
  const isSyllable = before >= 0xac00 && before <= 0xd7a3;
  if (isSyllable) {
    const hasTrail = (before - 0xac00) % 28 !== 0;
    return next === HANGUL.trail || (next === HANGUL.vowel && !hasTrail);
  }
  const last = hangulOf(before);
  if (last === HANGUL.lead) return next !== HANGUL.trail;
  if (last === HANGUL.vowel) return next === HANGUL.vowel || next === HANGUL.trail;
  return last === HANGUL.trail && next === HANGUL.trail;
}

/** A syllable that is one character begins as a lead does. */
function hangulOf(unit: number): number {
  if (unit < 0x1100 || unit > 0xd7fb) return HANGUL.none;
  if (unit <= 0x115f || (unit >= 0xa960 && unit <= 0xa97c)) return HANGUL.lead;
  if (unit <= 0x11a7 || (unit >= 0xd7b0 && unit <= 0xd7c6)) return HANGUL.vowel;
  if (unit <= 0x11ff || unit >= 0xd7cb) return HANGUL.trail;
  return unit >= 0xac00 && unit <= 0xd7a3 ? HANGUL.lead : HANGUL.none;
}

/** A flag is two letters of its own kind; in a run of them every second place is between flags. */
function splitsFlag(text: string, index: number, start: number): boolean {
  if (!isFlagLetter(text, index)) return false;
  let count = 0;
  for (let at = index - 2; at >= start && isFlagLetter(text, at); at -= 2) count++;
  return count % 2 === 1;
}

function isFlagLetter(text: string, index: number): boolean {
  const low = text.charCodeAt(index + 1);
  return text.charCodeAt(index) === 0xd83c && low >= 0xdde6 && low <= 0xddff;
}
