import { ServerError } from '../base/errors.ts';
import { findUtf8Fault } from './utf8-fault.ts';

// `fatal`: broken UTF-8 must not become U+FFFD and be embedded. A byte order mark at the start is
// dropped, as RFC 8259 allows.
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Parses a request body as JSON, in strict UTF-8.
 *
 * @param body borrowed.
 * @throws ServerError `EMB_BODY_MALFORMED`; the message names the byte, counted from zero, and
 * shows nothing of the body. `EMB_BODY_TOO_LARGE` of one with too many values.
 */
export function decodeJsonBody(body: Uint8Array): unknown {
  const fault = findBoundFault(body);
  if (fault === 'values') throw tooManyValues();
  if (fault >= 0) throw malformed(fault, `nested deeper than ${JSON_DEPTH_MAX} levels`);
  let source: string;
  try {
    source = decoder.decode(body);
  } catch (cause) {
    throw malformed(findUtf8Fault(body), 'that is no UTF-8', cause);
  }
  try {
    return JSON.parse(source);
  } catch (cause) {
    // The body is scanned again only now that it failed: the engine's message has no position, and
    // may quote the body.
    const broken = findJsonFault(body) ?? { at: body.length, expected: 'other JSON' };
    throw malformed(broken.at, `where ${broken.expected} was expected`, cause);
  }
}

function malformed(at: number, what: string, cause?: unknown): ServerError {
  return new ServerError('EMB_BODY_MALFORMED', `The JSON body breaks at byte ${at}, ${what}.`, {
    field: 'body',
    value: at,
    cause,
  });
}

/** What the scanners below look for; `END` is behind the last byte. */
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

/** No request nests deeper than four. A parser may take seconds for a million levels. */
export const JSON_DEPTH_MAX = 32;

/**
 * Values in one body, of JSON or msgpack. A text of 30 MB becomes 60 MB; 30 MB of empty maps became
 * 2.3 GB and held the main thread for 13 s. No request has more than two for each of its texts, and
 * REQUEST_TEXTS_MAX ends at a million.
 */
export const BODY_VALUES_MAX = 2_097_152;

/** The refusal of a body with more. */
export function tooManyValues(): ServerError {
  const message = `The body has more than ${BODY_VALUES_MAX} values, the limit.`;
  return new ServerError('EMB_BODY_TOO_LARGE', message, { field: 'body', limit: BODY_VALUES_MAX });
}

/**
 * Looks for nesting deeper than `JSON_DEPTH_MAX`, and for more values than `BODY_VALUES_MAX`,
 * before anything is parsed. Strings, nearly all of a body, are skipped by a native search.
 *
 * @param body borrowed; JSON or not.
 * @returns the byte that opens a level too many, `values`, or -1 when there is no such fault.
 */
export function findBoundFault(body: Uint8Array): number | 'values' {
  let depth = 0;
  // A value has a comma before it, or is the first behind a bracket.
  let values = 0;
  for (let at = 0; at < body.length; at++) {
    const byte = body[at];
    if (byte === QUOTE) {
      at = endOfString(body, at);
      if (at < 0) return -1;
    } else if (byte === ARRAY || byte === OBJECT) {
      if (++depth > JSON_DEPTH_MAX) return at;
      values++;
    } else if (byte === ARRAY_END || byte === OBJECT_END) depth--;
    else if (byte === COMMA && ++values > BODY_VALUES_MAX) return 'values';
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

/** Where a text stops being JSON. */
export interface JsonFault {
  /** Byte offset, from zero; the body's length when it ends too soon. */
  readonly at: number;
  /** What could have stood there, in words. */
  readonly expected: string;
}

/**
 * Finds the first byte at which UTF-8 text stops being JSON (RFC 8259). Only for a body that
 * `JSON.parse` has refused: its message has no position, does not always name the fault, and may
 * quote the body. Nested values need no stack.
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
