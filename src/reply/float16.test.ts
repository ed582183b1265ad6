import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { writeFloat16 } from './float16.ts';

function converted(values: Float32Array): Uint16Array {
  const target = new Uint16Array(values.length);
  writeFloat16(values, target);
  return target;
}

/** The engine's own conversion, as patterns. */
function reference(values: Float32Array): Uint16Array {
  return new Uint16Array(Float16Array.from(values).buffer);
}

/** Faults that these tests have caught, planted one at a time: ties rounded up, subnormals cut, the overflow bound one off. */
describe('writeFloat16', () => {
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
    const values = new Float32Array(Uint32Array.from(patterns).buffer);
    expect(converted(values)).toEqual(reference(values));
  });

  test('a million patterns, as the engine converts them', () => {
    const random = seededRandom(16);
    const patterns = Uint32Array.from(
      { length: 1 << 20 },
      () => random.below(0x10000) * 0x10000 + random.below(0x10000),
    );
    // What a NaN carries is nobody's business.
    const values = new Float32Array(patterns.buffer).filter((value) => !Number.isNaN(value));
    expect(converted(values)).toEqual(reference(values));
  });

  test('reads a view from the middle of its buffer', () => {
    expect(converted(Float32Array.of(9, 1, -2, 9).subarray(1, 3))).toEqual(
      Uint16Array.of(0x3c00, 0xc000),
    );
  });
});
