import { createTokenIds, reserveTokenIds, type TokenIds } from './unigram-search.ts';

/** Where tokens come from, in UTF-16 units of the text: from `starts[i]` to before `stops[i]`. */
export interface TokenOffsets {
  readonly starts: TokenIds;
  readonly stops: TokenIds;
}

/**
 * The offsets of a word's codes, exactly as the reference has them. A cursor walks the original
 * text:
 * - a replacement takes the places of the characters that it replaces, one by one;
 * - its surplus characters share the place of the last;
 * - removed characters are skipped when the code before them is placed.
 *
 * One oddity of the reference is kept. Characters removed at the very start of a segment have no
 * code before them. They are not skipped, so all places up to the end of the segment lag behind.
 */
export interface Alignment {
  /** Starts a segment of `text` at `start`. */
  begin(text: string, start: number): void;
  /** The next code stands for the next character. */
  keep(): void;
  /** The next code is number `index` of `count` that replace `characterCount` characters. */
  replace(index: number, count: number, characterCount: number): void;
  /**
   * Characters are removed. @returns whether the last code must be placed again: a surplus code
   * takes the place of the first removed character.
   */
  remove(characterCount: number): boolean;
  /** Undoes the last `keep`. */
  takeBack(): void;
  /** Notes the place found by `keep` or `replace` for the word's code at `index`. */
  place(index: number): void;
  /** How many codes each id covers, for the search to fill; by index of the id. */
  readonly lengths: TokenIds;
  /** Appends the offsets of the word's ids, which stand at `from` to before `to`. */
  finishWord(from: number, to: number, offsets: TokenOffsets): void;
  /** Frees what a very long word left behind. */
  shrink(): void;
}

const CODES_USUAL = 1024;

/** One for each encoder. Its arrays are reused from word to word. */
export function createAlignment(): Alignment {
  let starts = new Int32Array(CODES_USUAL);
  let stops = new Int32Array(CODES_USUAL);
  let lengths = createTokenIds();
  let text = '';
  let segmentStart = 0;
  let cursor = 0;
  let start = 0;
  let stop = 0;
  /**
   * What the last code of the segment was: none yet, one that took a character's place, or a
   * surplus one.
   */
  let last: 'none' | 'replacing' | 'surplus' = 'none';

  function advance(): void {
    cursor += (text.codePointAt(cursor) ?? 0) > 0xffff ? 2 : 1;
  }

  function stepBack(): number {
    const isPair = cursor - 2 >= segmentStart && (text.codePointAt(cursor - 2) ?? 0) > 0xffff;
    return isPair ? cursor - 2 : cursor - 1;
  }

  function skip(characterCount: number): void {
    for (let skipped = 0; skipped < characterCount; skipped++) advance();
  }

  /** The place of the character at the cursor. */
  function takeCharacter(): void {
    start = cursor;
    advance();
    stop = cursor;
    last = 'replacing';
  }

  return {
    get lengths() {
      return lengths;
    },
    begin(newText, newStart) {
      text = newText;
      segmentStart = newStart;
      cursor = newStart;
      last = 'none';
    },
    keep: takeCharacter,
    replace(index, count, characterCount) {
      if (index < characterCount) {
        takeCharacter();
        if (index === count - 1) skip(characterCount - count);
      } else {
        stop = cursor;
        start = cursor > segmentStart ? stepBack() : segmentStart;
        last = 'surplus';
      }
    },
    remove(characterCount) {
      if (last === 'none') return false;
      const isMoved = last === 'surplus';
      if (isMoved) takeCharacter();
      skip(characterCount - (isMoved ? 1 : 0));
      return isMoved;
    },
    takeBack() {
      cursor = stepBack();
    },
    place(index) {
      if (index >= starts.length) {
        const grown = new Int32Array(index * 2);
        grown.set(starts);
        starts = grown;
        const grownStops = new Int32Array(index * 2);
        grownStops.set(stops);
        stops = grownStops;
      }
      starts[index] = start;
      stops[index] = stop;
    },
    finishWord(from, to, offsets) {
      reserveTokenIds(offsets.starts, to - from);
      reserveTokenIds(offsets.stops, to - from);
      let code = 0;
      for (let index = from; index < to; index++) {
        offsets.starts.ids[offsets.starts.length++] = starts[code];
        code += lengths.ids[index];
        offsets.stops.ids[offsets.stops.length++] = stops[code - 1];
      }
    },
    shrink() {
      if (starts.length > CODES_USUAL) {
        starts = new Int32Array(CODES_USUAL);
        stops = new Int32Array(CODES_USUAL);
      }
      lengths = createTokenIds();
    },
  };
}
