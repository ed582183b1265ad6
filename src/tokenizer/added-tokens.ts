import type { AddedToken } from './tokenizer-json.ts';

/** An added token found in a text, with the white space that it takes along. */
export interface AddedMatch {
  readonly token: AddedToken;
  readonly start: number;
  readonly stop: number;
}

/** Finds the added tokens of one text after the other. */
export interface AddedTokenFinder {
  /** Starts on a new text. */
  begin(text: string): void;
  /** The next match, or null. The first one that starts, and of several there the longest. */
  next(): AddedMatch | null;
}

/**
 * White space as the reference's regular expressions see it. JavaScript's `\s` differs in U+0085
 * and U+FEFF.
 */
const WHITE_SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/**
 * Finds added tokens in the text as it stands. Nearly every text has none, so it looks for the
 * characters that they begin with, which the runtime does many at a time, and remembers where each
 * was last seen: every stretch is searched once.
 */
export function createAddedTokenFinder(tokens: readonly AddedToken[]): AddedTokenFinder {
  const longestFirst = [...tokens].sort((a, b) => b.content.length - a.content.length);
  const initials = [...new Set(longestFirst.map((token) => token.content.charAt(0)))];
  /** What may stand second; with a token of one unit, anything. */
  const secondUnits = createUnitSet(longestFirst);
  const positions: number[] = [];
  let text = '';
  let from = 0;

  function nextInitial(): number {
    let nearest = -1;
    for (let index = 0; index < initials.length; index++) {
      const initial = initials[index];
      let position = positions[index];
      if (position !== -1 && position < from) {
        // In a run of them, looking at the next character is cheaper than a search.
        const isNext = text.charCodeAt(from) === initial.charCodeAt(0);
        position = isNext ? from : text.indexOf(initial, from);
        positions[index] = position;
      }
      if (position !== -1 && (nearest === -1 || position < nearest)) nearest = position;
    }
    return nearest;
  }

  function tokenAt(at: number): AddedToken | undefined {
    if (!secondUnits.has(text.charCodeAt(at + 1))) return undefined;
    return longestFirst.find(({ content }) => text.startsWith(content, at));
  }

  return {
    begin(newText) {
      text = newText;
      from = 0;
      for (let index = 0; index < initials.length; index++) {
        positions[index] = text.indexOf(initials[index]);
      }
    },
    next() {
      const floor = from;
      for (let at = nextInitial(); at !== -1; at = nextInitial()) {
        const token = tokenAt(at);
        if (token === undefined) {
          from = at + 1;
          continue;
        }
        let start = at;
        let stop = at + token.content.length;
        // Searching goes on behind the token itself: white space after it may belong to the next
        // one.
        from = stop;
        if (token.stripsLeft) {
          while (start > floor && WHITE_SPACE.test(text.charAt(start - 1))) start--;
        }
        if (token.stripsRight) {
          while (stop < text.length && WHITE_SPACE.test(text.charAt(stop))) stop++;
          from = stop;
        }
        return { token, start, stop };
      }
      return null;
    },
  };
}

function createUnitSet(tokens: readonly AddedToken[]): { has(unit: number): boolean } {
  if (tokens.some((token) => token.content.length < 2)) return { has: () => true };
  return new Set(tokens.map((token) => token.content.charCodeAt(1)));
}
