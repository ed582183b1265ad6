/** Where a text stops being JSON. */
export interface JsonFault {
  /** Byte offset, from zero; the body's length when it ends too soon. */
  readonly at: number;
  /** What could have stood there, in words. */
  readonly expected: string;
}

/**
 * Finds the first byte at which UTF-8 text stops being JSON (RFC 8259). Only for a body that
 * `JSON.parse` has refused: its message says neither where nor, always, what; and it may quote the
 * body. Needs no stack for nested values.
 *
 * @param bytes borrowed; a byte order mark at its start is skipped.
 * @returns nothing when the text is JSON.
 */
export function findJsonFault(bytes: Uint8Array): JsonFault | undefined {
  const open: number[] = [];
  let at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
  let need: 'value' | 'value or ]' | 'key' | 'key or }' | 'end' = 'value';
  for (;;) {
    at = skipSpace(bytes, at);
    const byte = bytes[at] ?? END;
    if (need === 'end') {
      const opener = open.at(-1);
      if (opener === undefined) return byte === END ? undefined : { at, expected: 'the end' };
      const closer = opener === OBJECT ? OBJECT_END : ARRAY_END;
      if (byte === closer) open.pop();
      else if (byte === COMMA) need = opener === OBJECT ? 'key' : 'value';
      else return { at, expected: opener === OBJECT ? "',' or '}'" : "',' or ']'" };
      at++;
    } else if (need === 'key' || need === 'key or }') {
      if (byte === OBJECT_END && need === 'key or }') {
        open.pop();
        need = 'end';
        at++;
        continue;
      }
      if (byte !== QUOTE) return { at, expected: need === 'key' ? 'a key' : "a key or '}'" };
      const key = scanString(bytes, at + 1);
      if (typeof key !== 'number') return key;
      at = skipSpace(bytes, key);
      if (bytes[at] !== COLON) return { at, expected: "':'" };
      need = 'value';
      at++;
    } else if (byte === ARRAY_END && need === 'value or ]') {
      open.pop();
      need = 'end';
      at++;
    } else if (byte === OBJECT || byte === ARRAY) {
      open.push(byte);
      need = byte === OBJECT ? 'key or }' : 'value or ]';
      at++;
    } else {
      const end = scanScalar(bytes, at);
      if (typeof end !== 'number') return end;
      at = end;
      need = 'end';
    }
  }
}

const END = -1;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const ARRAY_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;
const LETTER_U = 0x75;

function skipSpace(bytes: Uint8Array, at: number): number {
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at++;
  }
}

/** The offset after a string, number or literal. */
function scanScalar(bytes: Uint8Array, at: number): number | JsonFault {
  const byte = bytes[at] ?? END;
  if (byte === QUOTE) return scanString(bytes, at + 1);
  if (byte === 0x2d || isDigit(byte)) return scanNumber(bytes, at);
  const literal = byte === 0x74 ? 'true' : byte === 0x66 ? 'false' : byte === 0x6e ? 'null' : '';
  if (literal === '') return { at, expected: 'a value' };
  for (let index = 1; index < literal.length; index++) {
    if (bytes[at + index] !== literal.charCodeAt(index)) {
      return { at: at + index, expected: `'${literal}'` };
    }
  }
  return at + literal.length;
}

/** @param at the offset after the opening quote. */
function scanString(bytes: Uint8Array, at: number): number | JsonFault {
  for (;;) {
    const byte = bytes[at] ?? END;
    if (byte === END) return { at, expected: "a closing '\"'" };
    if (byte < 0x20) return { at, expected: 'an escape for a control character' };
    if (byte === QUOTE) return at + 1;
    at++;
    if (byte !== BACKSLASH) continue;
    const escaped = bytes[at] ?? END;
    if (escaped === LETTER_U) {
      for (let digit = 1; digit <= 4; digit++) {
        if (!isHexDigit(bytes[at + digit] ?? END)) {
          return { at: at + digit, expected: 'a hexadecimal digit' };
        }
      }
      at += 5;
    } else if (escaped !== END && '"\\/bfnrt'.includes(String.fromCharCode(escaped))) at++;
    else return { at, expected: "one of '\"\\/bfnrtu'" };
  }
}

function scanNumber(bytes: Uint8Array, at: number): number | JsonFault {
  if (bytes[at] === 0x2d) at++;
  if (!isDigit(bytes[at] ?? END)) return { at, expected: 'a digit' };
  // A leading zero stands alone.
  at = bytes[at] === 0x30 ? at + 1 : skipDigits(bytes, at);
  if (bytes[at] === 0x2e) {
    if (!isDigit(bytes[at + 1] ?? END)) return { at: at + 1, expected: 'a digit' };
    at = skipDigits(bytes, at + 1);
  }
  if (bytes[at] === 0x65 || bytes[at] === 0x45) {
    at++;
    if (bytes[at] === 0x2b || bytes[at] === 0x2d) at++;
    if (!isDigit(bytes[at] ?? END)) return { at, expected: 'a digit' };
    at = skipDigits(bytes, at);
  }
  return at;
}

function skipDigits(bytes: Uint8Array, at: number): number {
  while (isDigit(bytes[at] ?? END)) at++;
  return at;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

function isHexDigit(byte: number): boolean {
  const lower = byte | 0x20;
  return isDigit(byte) || (byte >= 0 && lower >= 0x61 && lower <= 0x66);
}
