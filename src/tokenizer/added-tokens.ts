import type { AddedToken } from './tokenizer-json.ts';

/** An added token found in a text, with the white space that it takes along. */
export interface AddedMatch {
  readonly token: AddedToken;
  readonly start: number;
  readonly stop: number;
}

export interface AddedTokenFinder {
  /** Starts on a new text. */
  begin(text: string): void;
  /** The next match, or null. The first one that starts, and of several there the longest. */
  next(): AddedMatch | null;
}

/** White space as the reference's regular expressions see it. JavaScript's `\s` differs in U+0085 and U+FEFF. */
const WHITE_SPACE = /[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/**
 * Finds added tokens in the text as it stands. Nearly every text has none, so it looks for the characters that they begin
 * with, which the runtime does many at a time, and remembers where each was last seen: every stretch is searched once.
 */
export function createAddedTokenFinder(tokens: readonly AddedToken[]): AddedTokenFinder {
  const longestFirst = [...tokens].sort((a, b) => b.content.length - a.content.length);
  const initials = [...new Set(longestFirst.map((token) => token.content.charAt(0)))];
  const positions: number[] = [];
  let text = '';
  let from = 0;

  function nextInitial(): number {
    let nearest = -1;
    for (let index = 0; index < initials.length; index++) {
      let position = positions[index] ?? -1;
      if (position !== -1 && position < from) {
        position = text.indexOf(initials[index] ?? '', from);
        positions[index] = position;
      }
      if (position !== -1 && (nearest === -1 || position < nearest)) nearest = position;
    }
    return nearest;
  }

  return {
    begin(newText) {
      text = newText;
      from = 0;
      for (let index = 0; index < initials.length; index++) {
        positions[index] = text.indexOf(initials[index] ?? '');
      }
    },
    next() {
      const floor = from;
      for (let at = nextInitial(); at !== -1; at = nextInitial()) {
        const token = longestFirst.find(({ content }) => text.startsWith(content, at));
        if (token === undefined) {
          from = at + 1;
          continue;
        }
        let start = at;
        let stop = at + token.content.length;
        // Searching goes on behind the token itself: white space after it may belong to the next one.
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
