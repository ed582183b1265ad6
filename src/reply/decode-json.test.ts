import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import {
  BODY_VALUES_MAX,
  decodeJsonBody,
  findBoundFault,
  findJsonFault,
  JSON_DEPTH_MAX,
} from './decode-json.ts';

const encoder = new TextEncoder();

function faultOf(body: Uint8Array): ServerError {
  try {
    decodeJsonBody(body);
  } catch (error) {
    if (error instanceof ServerError) return error;
  }
  throw new Error('No ServerError was thrown.');
}

describe('decodeJsonBody', () => {
  test('takes what JSON.parse takes', () => {
    const value = {
      query: ['аренда', 'ß\u{1f600}', ''],
      batch_size: -1.5e3,
      truncate: true,
      x: null,
    };
    expect(decodeJsonBody(encoder.encode(JSON.stringify(value)))).toEqual(value);
  });

  test('takes a byte order mark at the start, and leaves it inside a text', () => {
    expect(decodeJsonBody(encoder.encode('\ufeff"\ufeffa"'))).toBe('\ufeffa');
  });

  test('reads a view from the middle of its buffer', () => {
    expect(decodeJsonBody(encoder.encode('xx[1]xx').subarray(2, 5))).toEqual([1]);
  });

  test('gives no object another prototype', () => {
    const value = decodeJsonBody(encoder.encode('{"__proto__": {"isAdmin": true}}')) as object;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect('isAdmin' in value).toBe(false);
  });

  test.each([
    ['', 0, 'a value'],
    ['   ', 3, 'a value'],
    ['{"query": "geheim" "x"}', 19, "',' or '}'"],
    ['{"query": geheim}', 10, 'a value'],
    ['{"query": "geheim', 17, 'a closing'],
    ["{'query': 1}", 1, 'a key'],
    ['{"query" 1}', 9, "':'"],
    ['{"query": 1,}', 12, 'a key'],
    ['[1,]', 3, 'a value'],
    ['[1 2]', 3, "',' or ']'"],
    ['[1}', 2, "',' or ']'"],
    ['{"a": 1]', 7, "',' or '}'"],
    ['[1] geheim', 4, 'the end'],
    ['[01]', 2, "',' or ']'"],
    ['[1.]', 3, 'a digit'],
    ['[-]', 2, 'a digit'],
    ['[1e+]', 4, 'a digit'],
    ['[.5]', 1, 'a value'],
    ['[nul]', 4, "'null'"],
    ['[tru', 4, "'true'"],
    ['"a\nb"', 2, 'an escape'],
    ['"a\\x"', 3, 'one of'],
    ['"\\u12g4"', 5, 'a hexadecimal digit'],
    ['["аренда" geheim]', 16, "',' or ']'"],
    ['\ufeff[1 2]', 6, "',' or ']'"],
  ])('%p breaks at byte %p', (source, at, expected) => {
    const error = faultOf(encoder.encode(source));
    expect(error.code).toBe('EMB_BODY_MALFORMED');
    expect(error.details).toEqual({ field: 'body', value: at });
    expect(error.message).toContain(`byte ${at},`);
    expect(error.message).toContain(expected);
    expect(error.message).not.toContain('geheim');
  });

  test.each([
    ['a lone continuation byte', [0x22, 0x80, 0x22], 1],
    ['a character that ends too soon', [0x22, 0xd0, 0xb0, 0xd0, 0x22], 3],
    ['the body ends in a character', [0x22, 0xf0, 0x9f, 0x98], 1],
    ['a longer form of a short character', [0x22, 0xc0, 0xaf, 0x22], 1],
    ['a longer form, three bytes', [0x22, 0xe0, 0x9f, 0xbf, 0x22], 1],
    ['a surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22], 1],
    ['above U+10FFFF', [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22], 1],
    ['a byte that UTF-8 never has', [0x22, 0x61, 0xff, 0x22], 2],
  ])('%s is no UTF-8', (_, bytes, at) => {
    const error = faultOf(Uint8Array.from(bytes));
    expect(error.code).toBe('EMB_BODY_MALFORMED');
    expect(error.message).toBe(`The JSON body breaks at byte ${at}, that is no UTF-8.`);
  });

  test('deep nesting breaks nothing', () => {
    expect(faultOf(encoder.encode('['.repeat(200_000))).details.value).toBe(32);
  });
});

/**
 * Caught, planted: a leading zero taken, a comma before a closing bracket taken, DEL refused in a
 * string.
 */
test('findJsonFault and JSON.parse agree on what is JSON, whatever is done to a body', () => {
  const random = seededRandom(7);
  const seeds = [
    '{"query": ["a b", "\\u00e9\\n", ""], "batch_size": 12, "truncate": false}',
    '[0, -0.5, 1e10, 1.25E-3, null, true, {"a": {}, "b": []}]',
    ' "x" ',
  ];
  const alphabet = '{}[]:,"\\/ \t\n\r0123456789+-.eEtrufalsn\u0001\u007fé';
  let valid = 0;
  for (let round = 0; round < 60_000; round++) {
    let source = random.pick(seeds);
    for (let edits = random.between(1, 3); edits > 0; edits--) {
      const at = random.below(source.length + 1);
      const inserted = random.below(3) === 0 ? '' : alphabet[random.below(alphabet.length)];
      source = source.slice(0, at) + inserted + source.slice(at + random.below(3));
    }
    const isJson = parses(source);
    if (isJson) valid++;
    if ((findJsonFault(encoder.encode(source)) === undefined) !== isJson) {
      throw new Error(`round ${round}: ${JSON.stringify(source)} is ${isJson ? '' : 'not '}JSON`);
    }
  }
  // Both kinds came up often enough for this to mean something.
  expect(valid).toBeGreaterThan(5_000);
  expect(valid).toBeLessThan(55_000);
});

function parses(source: string): boolean {
  try {
    JSON.parse(source);
    return true;
  } catch {
    return false;
  }
}

/**
 * Faults that were planted in the code by hand, and that these caught: brackets counted inside
 * strings; a quote behind an even number of backslashes that is skipped; a level that is closed and
 * still counted; values that are not counted.
 */

const depthFaultOf = (json: string): number | 'values' => findBoundFault(Buffer.from(json));

const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('nesting', () => {
  test('is allowed to the limit and named by its byte beyond', () => {
    expect(depthFaultOf(nested(JSON_DEPTH_MAX))).toBe(-1);
    expect(depthFaultOf(nested(JSON_DEPTH_MAX + 1))).toBe(JSON_DEPTH_MAX);
    expect(depthFaultOf(`{"a":${'{"a":'.repeat(40)}`)).toBe(5 * JSON_DEPTH_MAX);
  });

  test('many levels one after the other are not deep', () => {
    expect(depthFaultOf(`[${'[],{},'.repeat(1000)}1]`)).toBe(-1);
  });

  test('what stands in strings is text', () => {
    expect(depthFaultOf(JSON.stringify('['.repeat(1000)))).toBe(-1);
    expect(depthFaultOf(JSON.stringify([`"${'['.repeat(100)}\\"`, '\\', '['.repeat(100)]))).toBe(
      -1,
    );
    expect(depthFaultOf(`["\\\\",${nested(JSON_DEPTH_MAX)}]`)).toBe(6 + JSON_DEPTH_MAX - 1);
    expect(depthFaultOf('"never closed [[[')).toBe(-1);
  });

  test('values are counted by commas and brackets, in strings they are text', () => {
    const list = (count: number): string => `[${'0,'.repeat(count - 1)}0]`;
    expect(findBoundFault(Buffer.from(list(BODY_VALUES_MAX)))).toBe(-1);
    expect(findBoundFault(Buffer.from(list(BODY_VALUES_MAX + 1)))).toBe('values');
    expect(findBoundFault(Buffer.from(`["${','.repeat(BODY_VALUES_MAX + 1)}"]`))).toBe(-1);
    const objects = Buffer.from(`{"query":[${'{},'.repeat(10_000_000)}0]}`);
    expect(() => decodeJsonBody(objects)).toThrow('more than 2097152 values');
  });

  test('a body too deep is malformed, and no parser sees it', () => {
    const body = Buffer.from(`{"query":${nested(5_000_000)}}`);
    expect(() => decodeJsonBody(body)).toThrow('nested deeper than 32 levels');
  });
});
