import { describe, expect, test } from 'bun:test';
import { InvariantError } from '../base/errors.ts';
import { faultOfLength, faultOfReading } from '../testing/float32-json-check.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { FLOAT32_JSON_BYTES_MAX, writeFloat32Json } from './float32-json.ts';

const ROW_LENGTH = 4_096;

const bytes = new Uint8Array(ROW_LENGTH * FLOAT32_JSON_BYTES_MAX);
const view = new DataView(bytes.buffer);
const decoder = new TextDecoder();

function written(row: Float32Array): string {
  return decoder.decode(bytes.subarray(0, writeFloat32Json(bytes, view, 0, row)));
}

/**
 * Every number of a row reads back exactly, and of every `lengthEvery`th, none could be shorter.
 */
function expectShortest(patterns: Uint32Array, lengthEvery = 1): void {
  const source = written(new Float32Array(patterns.buffer, 0, patterns.length));
  expect(faultOfReading(patterns, source)).toBeUndefined();
  const tokens = source.split(',');
  for (let index = 0; index < tokens.length; index += lengthEvery) {
    const fault = faultOfLength(patterns[index], tokens[index]);
    if (fault !== undefined) expect(fault).toBeUndefined();
  }
}

function isFinitePattern(bits: number): boolean {
  return ((bits >>> 23) & 0xff) !== 0xff;
}

/** As wide a choice of patterns as 32 random bits can give, finite ones only. */
function randomPatterns(seed: number, draw: (bits: number) => number): Uint32Array {
  const random = seededRandom(seed);
  return Uint32Array.from({ length: ROW_LENGTH }, () => {
    for (;;) {
      const bits = draw(random.below(0x10000) * 0x10000 + random.below(0x10000)) >>> 0;
      if (isFinitePattern(bits)) return bits;
    }
  });
}

/**
 * Faults that these tests have caught, planted one at a time: every midpoint taken as inside, and
 * as outside; a power of two's uneven interval taken for an even one, on the long way and on the
 * short one; one unit too many, and units cut instead of rounded; zeros left where the last four
 * digits are zeros; one decimal too few; one binade too many at either end of the exact ones; the
 * half width a twentieth too wide, and too narrow; the sticky bit dropped, and set too often; the
 * power not rounded up; the farther of two decimals; the sign of zero lost.
 */
describe('writeFloat32Json', () => {
  test.each([
    [0, '0'],
    [-0, '-0'],
    [1, '1'],
    [-1, '-1'],
    [0.5, '0.5'],
    [0.1, '0.1'],
    [-0.3, '-0.3'],
    [0.99999994, '0.99999994'],
    [1.0000001, '1.0000001'],
    [0.00390625, '0.00390625'],
    [0.001, '0.001'],
    [1.5e-5, '0.000015'],
    [1e-5, '0.00001'],
    [9.999e-6, '9.999e-6'],
    [1e-45, '1e-45'],
    [1.1754944e-38, '1.1754944e-38'],
    [3.4028235e38, '3.4028235e38'],
    [-3.4028235e38, '-3.4028235e38'],
    [2.7182817, '2.7182817'],
    [10, '10'],
    [100.5, '100.5'],
    [8191.9995, '8191.9995'],
    [8192.5, '8192.5'],
    [1_048_576.1, '1048576.1'],
    [16_777_216, '16777216'],
    [33_554_432, '33554432'],
    [1e9, '1000000000'],
    [1e10, '1e10'],
  ])('%p is %p', (value, expected) => {
    expect(written(Float32Array.of(value))).toBe(expected);
  });

  const sixteenths = Array.from({ length: 16 }, (_, part) => part);

  test.each(sixteenths)('a million patterns of all kinds read back, sixteenth %p', (part) => {
    for (let seed = part * 16; seed < part * 16 + 16; seed++) {
      expectShortest(
        randomPatterns(seed, (bits) => bits),
        8,
      );
    }
  });

  test.each(sixteenths)('what unit vectors hold, 2^-16 to 1, sixteenth %p', (part) => {
    // Keeps sign and mantissa, and puts the exponent into the sixteen binades below one.
    const draw = (bits: number) => (bits & 0x807fffff) | ((111 + ((bits >>> 23) & 0xf)) << 23);
    for (let seed = part * 4; seed < part * 4 + 4; seed++) {
      expectShortest(randomPatterns(seed, draw), 4);
    }
  });

  test('the one value that two roundings would move, and its neighbour', () => {
    const patterns = Uint32Array.of(0x15ae43fd, 0x15ae43fe, 0x95ae43fd);
    const source = written(new Float32Array(patterns.buffer));
    expect(source).toBe('7.0385307e-26,7.0385313e-26,-7.0385307e-26');
    expect(faultOfReading(patterns, source)).toBeUndefined();
    expect(faultOfReading(patterns.subarray(0, 1), '7.038531e-26')).toContain('reads back');
  });

  test('every power of two, its neighbours, and every short mantissa', () => {
    const patterns: number[] = [];
    for (let bits = 0; isFinitePattern(bits); bits += 1 << 17) {
      patterns.push(bits, bits + 1, bits + 2);
      if (bits > 0) patterns.push(bits - 1, bits - 2);
    }
    for (let start = 0; start < patterns.length; start += ROW_LENGTH) {
      expectShortest(Uint32Array.from(patterns.slice(start, start + ROW_LENGTH)));
    }
  });

  test('the first and the last subnormals', () => {
    expectShortest(Uint32Array.from({ length: ROW_LENGTH }, (_, index) => index));
    expectShortest(Uint32Array.from({ length: ROW_LENGTH }, (_, index) => 0x800000 - index));
  });

  test('every decimal of up to four digits is written as it stands', () => {
    for (let power = 1; power <= 8; power++) {
      const values = Float32Array.from({ length: ROW_LENGTH }, (_, index) => index / 10 ** power);
      const numbers = written(values).split(',').map(Number);
      expect(numbers).toEqual(
        Array.from({ length: ROW_LENGTH }, (_, index) => index / 10 ** power),
      );
    }
  });

  test('stays within its bytes for the longest numbers', () => {
    const row = new Float32Array(64).fill(-1.1754944e-38);
    const end = writeFloat32Json(bytes, view, 0, row);
    expect(end).toBe(64 * '-1.1754944e-38,'.length - 1);
    const tight = new Uint8Array(row.length * FLOAT32_JSON_BYTES_MAX);
    expect(writeFloat32Json(tight, new DataView(tight.buffer), 0, row)).toBe(end);
  });

  test('writes at an offset, and reads a row from the middle of its buffer', () => {
    bytes.fill(0x78, 0, 7);
    const row = Float32Array.of(9, 0.25, -0.75, 9).subarray(1, 3);
    const end = writeFloat32Json(bytes, view, 7, row);
    expect(decoder.decode(bytes.subarray(0, end))).toBe('xxxxxxx0.25,-0.75');
    expect(writeFloat32Json(bytes, view, 7, new Float32Array(0))).toBe(7);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    '%p is a fault of ours',
    (value) => {
      expect(() => written(Float32Array.of(0.5, value))).toThrow(InvariantError);
    },
  );
});

describe('the check itself', () => {
  const bits = new Uint32Array(Float32Array.of(0.1).buffer);

  test('sees a number that reads back to a neighbour', () => {
    expect(faultOfReading(bits, '0.10000001')).toContain('reads back');
  });

  test('sees a midpoint that belongs to the even neighbour', () => {
    const odd = Uint32Array.of(0x3f800001);
    // 1 + 2^-24 lies halfway between 1 and its upper neighbour, which is odd.
    expect(faultOfReading(odd, '1.000000059604644775390625')).toContain('reads back');
    // Above the midpoint by less than a double can hold: only a parser that rounds twice is
    // mistaken.
    expect(faultOfReading(odd, '1.0000000596046447753906251')).toContain('reads back');
    const two = Uint32Array.of(0x3f800002);
    expect(faultOfReading(two, '1.0000001788139343261718749')).toContain('not nearest');
    expect(faultOfReading(two, '1.000000178813934326171875')).toBeUndefined();
  });

  test('sees digits that could be fewer or nearer', () => {
    expect(faultOfLength(bits[0], '0.100000001')).toContain('does');
    expect(faultOfLength(0x3f800001, '1.0000001')).toBeUndefined();
    expect(faultOfLength(0x3f800001, '1.0000002')).toContain('nearer');
  });
});
