import { describe, expect, test } from 'bun:test';
import { floatsIn, halvesIn, vectorOf } from '../testing/reply-fixtures.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { base64OfRow, blockOf, bytesOfBlock, copyBlock, float16Of } from './row-bytes.ts';

const matrix = vectorOf(40);
const other = matrix.map((value) => -value);
const rowAt = (index: number) => matrix.subarray(index * 4, index * 4 + 4);
const empty = new Float32Array(matrix.buffer, 8, 0);

/**
 * Caught, planted: rows taken as neighbours that lie in another order, with a gap, or in another
 * buffer; a view read from its buffer's start.
 */
describe('copyBlock', () => {
  test.each([
    ['no rows', []],
    ['neighbours', [rowAt(0), rowAt(1), rowAt(2)]],
    ['neighbours in the middle', [rowAt(3), rowAt(4)]],
    ['another order', [rowAt(2), rowAt(1), rowAt(0)]],
    ['a gap', [rowAt(0), rowAt(2), rowAt(3)]],
    ['a row twice', [rowAt(1), rowAt(1)]],
    ['rows that overlap', [matrix.subarray(0, 6), matrix.subarray(3, 9)]],
    ['the place of a neighbour, in another buffer', [rowAt(0), other.subarray(5, 9)]],
    ['rows of all lengths', [empty, rowAt(0), empty, matrix.subarray(4, 11), empty]],
  ])('%s', (_, rows) => {
    const expected = rows.flatMap((row) => Array.from(row));
    for (const dtype of ['float32', 'float16'] as const) {
      const block = blockOf(rows, dtype);
      const bytes = bytesOfBlock(block);
      // At an odd offset, too: a block in the middle of a msgpack document may lie anywhere.
      for (const at of [3, 4]) {
        const target = new Uint8Array(bytes + 10).fill(0xaa);
        expect(copyBlock(target, at, block)).toBe(at + bytes);
        const copied = target.subarray(at, at + bytes);
        if (dtype === 'float32') expect(floatsIn(copied)).toEqual(Float32Array.from(expected));
        else expect(halvesIn(copied)).toEqual(Float16Array.from(expected));
        expect([...target.subarray(0, at), ...target.subarray(at + bytes)]).toEqual(
          Array(10).fill(0xaa),
        );
      }
    }
  });

  test('int32 goes as it is', () => {
    const indices = Int32Array.of(9, 1, -2, 250_001, 9).subarray(1, 4);
    const target = new Uint8Array(12);
    copyBlock(target, 0, { arrays: [indices], asFloat16: false });
    expect(new Int32Array(target.buffer)).toEqual(Int32Array.of(1, -2, 250_001));
  });
});

/** What a NaN carries is nobody's business. */
const isNumber = (value: number) => !Number.isNaN(value);

/** The patterns that the engine makes of some float32. */
function converted(values: Float32Array): Uint16Array {
  return new Uint16Array(float16Of(values).buffer);
}

/** The same by integer arithmetic on the patterns, in its own words. */
function reference(values: Float32Array): Uint16Array {
  const patterns = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(patterns, (bits) => {
    const sign = (bits >>> 16) & 0x8000;
    const exponent = ((bits >>> 23) & 0xff) - 127;
    // Mantissas of 24 bits; how many of them are below the last bit that stays depends on the
    // exponent.
    const mantissa = (bits & 0x7fffff) | 0x800000;
    if (exponent > 15) return sign | 0x7c00;
    const dropped = exponent >= -14 ? 13 : 13 + (-14 - exponent);
    if (dropped > 25) return sign;
    const kept = Math.floor(mantissa / 2 ** dropped);
    const rest = mantissa % 2 ** dropped;
    const isUp = rest > 2 ** (dropped - 1) || (rest === 2 ** (dropped - 1) && kept % 2 === 1);
    // The hidden bit adds one to the exponent, and so does a carry out of the mantissa: from 65,520
    // on, into infinity.
    const base = exponent >= -14 ? (exponent + 14) << 10 : 0;
    return sign | (base + kept + (isUp ? 1 : 0));
  });
}

/**
 * Caught, with the conversion done by hand: ties rounded up, the last bits cut off, subnormals made
 * zero.
 */
describe('float16Of', () => {
  test.each([
    [0, 0x0000],
    [-0, 0x8000],
    [1, 0x3c00],
    [-2, 0xc000],
    [65_504, 0x7bff],
    [65_519.996, 0x7bff],
    [65_520, 0x7c00],
    [-1e30, 0xfc00],
    [Number.NEGATIVE_INFINITY, 0xfc00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000],
    [2 ** -25 * 1.0000001, 0x0001],
    [-(2 ** -26), 0x8000],
    [1.5 * 2 ** -24, 0x0002],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
  ])('%p', (value, pattern) => {
    expect(converted(Float32Array.of(value))[0]).toBe(pattern);
  });

  test('NaN, whatever it carries', () => {
    const patterns = Uint32Array.of(0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7fffffff);
    const values = new Float32Array(patterns.buffer);
    expect([...float16Of(values)]).toEqual(Array(patterns.length).fill(Number.NaN));
  });

  test('every float16, and what lies on and beside the midpoint to the next', () => {
    const patterns: number[] = [];
    const floats = new Float32Array(1);
    const bits = new Uint32Array(floats.buffer);
    for (let half = 0; half < 0x7c00; half++) {
      floats[0] = new Float16Array(Uint16Array.of(half).buffer)[0];
      const value = floats[0];
      floats[0] = (value + new Float16Array(Uint16Array.of(half + 1).buffer)[0]) / 2;
      const midpoint = bits[0];
      floats[0] = value;
      for (const pattern of [bits[0], bits[0] + 1, midpoint - 1, midpoint, midpoint + 1]) {
        patterns.push(pattern, pattern | 0x80000000);
      }
    }
    const values = new Float32Array(Uint32Array.from(patterns).buffer).filter(isNumber);
    expect(converted(values)).toEqual(reference(values));
  });

  test('a million patterns, as integer arithmetic has them', () => {
    const random = seededRandom(16);
    const patterns = Uint32Array.from(
      { length: 1 << 20 },
      () => random.below(0x10000) * 0x10000 + random.below(0x10000),
    );
    const values = new Float32Array(patterns.buffer).filter(isNumber);
    expect(converted(values)).toEqual(reference(values));
  });

  test('reads a view from the middle of its buffer', () => {
    expect(converted(Float32Array.of(9, 1, -2, 9).subarray(1, 3))).toEqual(
      Uint16Array.of(0x3c00, 0xc000),
    );
  });
});

test('base64 of little-endian float32', () => {
  expect(base64OfRow(Float32Array.of(1, -2))).toBe('AACAPwAAAMA=');
  expect(base64OfRow(new Float32Array(0))).toBe('');
});

test('reads a row from the middle of its buffer', () => {
  expect(base64OfRow(Float32Array.of(9, 1, -2, 9).subarray(1, 3))).toBe('AACAPwAAAMA=');
});
