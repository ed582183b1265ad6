import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { float16Of } from './float16.ts';

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
    [Number.NaN, 0x7e00],
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
