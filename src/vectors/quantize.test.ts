import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { quantizeRow } from './quantize.ts';

/**
 * Against plain definitions written another way. Faults that were planted and caught: bits from the
 * least significant on; `binary` as two's complement; a scale of 128; zero counted as positive.
 */

const rowOf = (seed: number, length: number): Float32Array => {
  const random = seededRandom(seed);
  return Float32Array.from({ length }, () => random.below(2_000_001) / 1_000_000 - 1);
};

/** Bits as text, most significant first. */
const bitsOf = (bytes: Iterable<number>): string =>
  Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0')).join('');

describe.each([1, 7, 8, 9, 384, 1024])('%d dimensions', (length) => {
  test('ubinary has the signs in the order of the dimensions', () => {
    const row = rowOf(length, length);
    const bits = bitsOf(quantizeRow(row, 'ubinary'));
    const signs = Array.from(row, (value) => (value > 0 ? '1' : '0')).join('');
    expect(bits).toBe(signs.padEnd(Math.ceil(length / 8) * 8, '0'));
  });

  test('binary is ubinary less 128', () => {
    const row = rowOf(length + 1, length);
    const back = Array.from(quantizeRow(row, 'binary'), (byte) => byte + 128);
    expect(back).toEqual([...quantizeRow(row, 'ubinary')]);
  });

  test('int8 keeps the direction, and its largest value is 127', () => {
    const row = rowOf(length + 2, length);
    const bytes = quantizeRow(row, 'int8');
    expect(Math.max(...bytes.map(Math.abs))).toBe(127);
    const dot = row.reduce((sum, value, index) => sum + value * bytes[index], 0);
    expect(dot / (Math.hypot(...row) * Math.hypot(...bytes))).toBeGreaterThan(0.9999);
  });

  test('uint8 is int8 and 128', () => {
    const row = rowOf(length + 3, length);
    const back = Array.from(quantizeRow(row, 'uint8'), (byte) => byte - 128);
    expect(back).toEqual([...quantizeRow(row, 'int8')]);
  });
});

test('zero is not positive, and a row of zeros stays one', () => {
  const zeros = new Float32Array(16);
  expect([...quantizeRow(zeros, 'ubinary')]).toEqual([0, 0]);
  expect([...quantizeRow(zeros, 'int8')]).toEqual(new Array(16).fill(0));
  expect([...quantizeRow(zeros, 'uint8')]).toEqual(new Array(16).fill(128));
});
