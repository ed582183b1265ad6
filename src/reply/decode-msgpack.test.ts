import { describe, expect, test } from 'bun:test';
import { Packr } from 'msgpackr';
import { ServerError } from '../base/errors.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { decodeMsgpackBody } from './decode-msgpack.ts';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const encoder = new TextEncoder();

function faultOf(bytes: Uint8Array | readonly number[]): ServerError {
  try {
    decodeMsgpackBody(Uint8Array.from(bytes));
  } catch (error) {
    if (error instanceof ServerError) return error;
    throw error;
  }
  throw new Error('No ServerError was thrown.');
}

describe('decodeMsgpackBody', () => {
  test.each([
    [{ query: 'аренда', batch_size: 16, truncate: false }],
    [{ query: Array.from({ length: 300 }, (_, index) => `text ${index}`) }],
    [
      [
        null,
        true,
        false,
        '',
        'a',
        'x'.repeat(31),
        'x'.repeat(32),
        'ü'.repeat(200),
        'x'.repeat(70_000),
      ],
    ],
    [[0, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_295, 4_294_967_296, 2 ** 53 - 1]],
    [[-1, -32, -33, -128, -129, -32_768, -32_769, -2_147_483_648, -(2 ** 53 - 1)]],
    [[0.5, -1.25e300, 3.14]],
    [Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key ${index}`, [index]]))],
    [Array.from({ length: 70_000 }, (_, index) => index)],
    ['\ufeffa text may begin with U+FEFF'],
    ['surrogate pairs \u{1f600}\u{10ffff} and \u0000'],
  ])('is the inverse of msgpackr', (value) => {
    expect(decodeMsgpackBody(packr.pack(value))).toEqual(value);
  });

  test('reads what a default Packr writes: records, and undefined as absent', () => {
    const bodies = [
      { query: 'аренда', truncate: true, batch_size: undefined },
      { query: ['a', 'b'], batch_size: 0x41, parameters: { a: 1 }, rows: [{ b: 64 }, { b: 127 }] },
      { a: { b: { c: [{ d: 1 }, { d: 2 }] } } },
    ];
    for (const body of bodies) {
      expect(decodeMsgpackBody(new Packr().pack(body))).toEqual(JSON.parse(JSON.stringify(body)));
      expect(decodeMsgpackBody(packr.pack(body))).toEqual(JSON.parse(JSON.stringify(body)));
    }
  });

  test.each([
    ['keys that are none', [0xd4, 0x72, 0x40, 0x91, 0x01, 0x01]],
    ['a key twice', [0xd4, 0x72, 0x40, 0x92, 0xa1, 0x61, 0xa1, 0x61, 0x01, 0x01]],
    ['no keys', [0xd4, 0x72, 0x40, 0x01]],
    ['the prototype', [0xd4, 0x72, 0x40, 0x91, 0xa9, ...encoder.encode('__proto__'), 0x80]],
  ])('a record with %s names the way out', (_what, bytes) => {
    expect(faultOf(bytes).message).toContain('useRecords: false');
  });

  test('reads float32, the widest integers, and binary as a copy that outlives the body', () => {
    expect(decodeMsgpackBody(Uint8Array.of(0xca, 0x3f, 0x80, 0, 0))).toBe(1);
    expect(decodeMsgpackBody(Uint8Array.of(0xcf, ...Array(8).fill(0xff)))).toBe(2 ** 64);
    expect(decodeMsgpackBody(Uint8Array.of(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0))).toBe(-(2 ** 63));
    // A Buffer, whose `slice` is a view.
    const body = Buffer.of(0xc4, 3, 7, 8, 9);
    const binary = decodeMsgpackBody(body) as Uint8Array;
    body.fill(0);
    expect(binary).toEqual(Uint8Array.of(7, 8, 9));
  });

  test('refuses more values than a request can have, before they take memory', () => {
    const empty = Buffer.alloc(10_000_000, 0x80);
    empty[0] = 0xdd;
    empty.writeUInt32BE(empty.length - 5, 1);
    expect(faultOf(empty)).toMatchObject({
      code: 'EMB_BODY_TOO_LARGE',
      details: { field: 'body' },
    });
  });

  test('reads a view from the middle of its buffer', () => {
    const bytes = Uint8Array.from([9, 9, ...packr.pack({ a: 'длинный текст, не ASCII' }), 9]);
    expect(decodeMsgpackBody(bytes.subarray(2, -1))).toEqual({ a: 'длинный текст, не ASCII' });
  });

  test('maps are plain objects', () => {
    expect(Object.getPrototypeOf(decodeMsgpackBody(packr.pack({ a: 1 })))).toBe(Object.prototype);
    const value = decodeMsgpackBody(packr.pack({ constructor: 1, toString: 2 })) as object;
    expect(Object.keys(value)).toEqual(['constructor', 'toString']);
  });

  test.each([
    ['nothing', [], 0, 'ends in the middle'],
    ['more than a value', [0x01, 0x02], 1, '1 bytes follow'],
    ['a string that is cut', [0xa5, 0x61], 2, 'ends in the middle'],
    ['a length that is cut', [0xdb, 0, 0], 3, 'ends in the middle'],
    ['a huge array', [0xdd, 0xff, 0xff, 0xff, 0xff], 5, 'ends before'],
    ['a huge map', [0xdf, 0x7f, 0xff, 0xff, 0xff], 5, 'ends before'],
    ['a huge binary', [0xc6, 0xff, 0xff, 0xff, 0xff], 5, 'ends in the middle'],
    ['no type', [0x91, 0xc1], 1, 'does not exist'],
    ['an extension', [0xd4, 0x01, 0x00], 0, 'extension types'],
    ['a timestamp', [0xd6, 0xff, 0, 0, 0, 0], 0, 'extension types'],
    ['a long extension', [0xc7, 0x00, 0x01], 0, 'extension types'],
    ['a number as key', [0x81, 0x01, 0x02], 1, 'a key must be a string'],
    ['a binary as key', [0x81, 0xc4, 0x01, 0x61, 0x02], 1, 'a key must be a string'],
    ['a key twice', [0x82, 0xa1, 0x61, 0x01, 0xa1, 0x61, 0x02], 4, 'stands twice'],
    ['broken UTF-8, short', [0xa3, 0x61, 0x80, 0x62], 2, 'broken UTF-8'],
    ['a surrogate', [0xa3, 0xed, 0xa0, 0x80], 1, 'broken UTF-8'],
    ['a broken key', [0x81, 0xa1, 0xff, 0x01], 2, 'broken UTF-8'],
    ['broken UTF-8, long', [0xae, ...Array(13).fill(0x61), 0xd0], 14, 'broken UTF-8'],
    ['deep nesting', [...Array(17).fill(0x91), 0x01], 17, 'deeper than 16'],
    ['very deep nesting', Array(100_000).fill(0x91), 17, 'deeper than 16'],
  ])('refuses %s', (_, bytes, at, what) => {
    const error = faultOf(bytes);
    expect(error.code).toBe('EMB_BODY_MALFORMED');
    expect(error.details).toEqual({ field: 'body', value: at });
    expect(error.message).toContain(`byte ${at}:`);
    expect(error.message).toContain(what);
  });

  test('refuses a key that would change a prototype', () => {
    const key = encoder.encode('__proto__');
    const error = faultOf([0x81, 0xa0 | key.length, ...key, 0x80]);
    expect(error.message).toContain('__proto__');
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  test('shows nothing of the body', () => {
    expect(faultOf([...packr.pack({ query: 'geheim' }), 1]).message).not.toContain('geheim');
  });

  test('every cut of a body is refused', () => {
    const body = packr.pack({
      query: ['a', 'б', 'x'.repeat(300)],
      n: 1e10,
      f: 0.1,
      b: [true, null],
    });
    for (let length = 0; length < body.length; length++) {
      expect(faultOf(body.subarray(0, length)).code).toBe('EMB_BODY_MALFORMED');
    }
  });

  test('random bytes give a value or a ServerError', () => {
    const random = seededRandom(11);
    let values = 0;
    for (let round = 0; round < 50_000; round++) {
      const bytes = Uint8Array.from({ length: random.between(1, 24) }, () => random.below(256));
      try {
        decodeMsgpackBody(bytes);
        values++;
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
      }
    }
    expect(values).toBeGreaterThan(500);
  });
});
