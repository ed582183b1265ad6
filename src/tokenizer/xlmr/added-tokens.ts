import type { AddedToken } from './compiled-format.ts';

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
