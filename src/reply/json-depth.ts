/** No request of ours nests deeper than four; a parser may take seconds for a million levels. */
export const JSON_DEPTH_MAX = 32;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Looks for nesting deeper than `JSON_DEPTH_MAX`, before anything is parsed. Strings, which are
 * nearly all of a body, are skipped by a native search.
 *
 * @param body borrowed; JSON or not.
 * @returns the byte that opens a level too many, or -1.
 */
export function findDepthFault(body: Uint8Array): number {
  let depth = 0;
  for (let at = 0; at < body.length; at++) {
    const byte = body[at];
    if (byte === QUOTE) {
      at = endOfString(body, at);
      if (at < 0) return -1;
    } else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      if (++depth > JSON_DEPTH_MAX) return at;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth--;
  }
  return -1;
}

/** Where the string that opens at `from` has its closing quote; -1 when it has none. */
function endOfString(body: Uint8Array, from: number): number {
  for (let end = body.indexOf(QUOTE, from + 1); end >= 0; end = body.indexOf(QUOTE, end + 1)) {
    let slashes = 0;
    while (body[end - 1 - slashes] === BACKSLASH) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return -1;
}
