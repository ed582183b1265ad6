import { expect, test } from 'bun:test';
import { join } from 'node:path';
import wabt from 'wabt';
import { setFloat16, setFloat16Within, squaredLengthsAreWithin } from './row-kernels.ts';

const NEAR_ONE = { low: 0.99, high: 1.01 };

/** Rows of length one: each value is 1 / sqrt(dimension), with either sign. */
function unitRows(rowCount: number, dimension: number): Float32Array {
  const value = 1 / Math.sqrt(dimension);
  return Float32Array.from({ length: rowCount * dimension }, (_, at) => (at % 3 ? value : -value));
}

test('what is carried is what the source says', async () => {
  const source = await Bun.file(join(import.meta.dir, 'row-kernels.wat')).text();
  const { parseWat } = await wabt();
  const assembled = parseWat('row-kernels.wat', source, { simd: true }).toBinary({}).buffer;
  const carried = await Bun.file(join(import.meta.dir, 'row-kernels.ts')).text();
  const lines = /ASSEMBLED = \[(.*?)\]/s.exec(carried)?.[1] ?? '';
  expect(lines.replace(/[\s',]/g, '')).toBe(Buffer.from(assembled).toString('base64'));
});

test('rows of any number and width are within, and one that is not is found wherever it is', () => {
  for (const [rowCount, dimension] of [
    [1, 1024],
    [8, 1024],
    [9, 1024],
    [511, 1024],
    [1, 16],
    [700, 48],
    [3, 4096],
  ]) {
    const rows = unitRows(rowCount, dimension);
    expect(squaredLengthsAreWithin(rows, dimension, NEAR_ONE)).toBe(true);
    for (const row of new Set([0, rowCount >> 1, rowCount - 1])) {
      for (const at of [0, 5, 15, dimension - 1]) {
        for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, -1e30, 0.2]) {
          const changed = rows.slice();
          changed[row * dimension + at] = wrong;
          expect(squaredLengthsAreWithin(changed, dimension, NEAR_ONE)).toBe(false);
        }
      }
    }
  }
});

test('both bounds hold', () => {
  const rows = unitRows(2, 64).map((value, at) => (at < 64 ? value : value * 0.5));
  expect(squaredLengthsAreWithin(rows, 64, { low: 0.2, high: 1.1 })).toBe(true);
  expect(squaredLengthsAreWithin(rows, 64, { low: 0.3, high: 1.1 })).toBe(false);
  expect(squaredLengthsAreWithin(rows, 64, { low: 0.2, high: 0.9 })).toBe(false);
});

test('rows that the loop cannot take are never within', () => {
  for (const dimension of [4, 24, 4112]) {
    const isWithin = squaredLengthsAreWithin(unitRows(2, dimension), dimension, NEAR_ONE);
    expect(isWithin).toBe(false);
  }
});

test('halves of any number land where they are wanted, and nowhere else', () => {
  for (const count of [0, 1, 7, 8, 1000, 4095, 4096, 4097, 20_000]) {
    const values = Float32Array.from({ length: count }, (_, at) => Math.sin(at) * 10 ** -(at % 9));
    const target = new Float16Array(count + 6).fill(3);
    setFloat16(target, values, 5);
    const expected = [3, 3, 3, 3, 3, ...new Float16Array(values), 3];
    expect(target).toEqual(new Float16Array(expected));
  }
});

test.each([
  [1, 1024],
  [8, 1024],
  [511, 1024],
  [700, 48],
  [3, 4096],
])(
  '%i rows of %i become halves where they lie, up to the block of one that is not within',
  (rowCount, dimension) => {
    for (const wrong of [undefined, 0, rowCount >> 1, rowCount - 1]) {
      const rows = unitRows(rowCount, dimension);
      if (wrong !== undefined) rows[wrong * dimension + 3] = Number.NaN;
      const before = rows.slice();
      const halves = new Float16Array(rows.buffer, 0, rows.length);
      const sureCount = setFloat16Within(halves, rows, dimension, NEAR_ONE);
      if (wrong === undefined) expect(sureCount).toBe(rowCount);
      else expect(sureCount).toBeLessThanOrEqual(wrong);
      const done = sureCount * dimension;
      expect(halves.slice(0, done)).toEqual(new Float16Array(before.subarray(0, done)));
      expect([...rows.subarray(done)]).toEqual([...before.subarray(done)]);
    }
  },
);

test('rows that the loop cannot take stay as they are', () => {
  const rows = unitRows(2, 24);
  const halves = new Float16Array(rows.buffer, 0, rows.length);
  expect(setFloat16Within(halves, rows, 24, NEAR_ONE)).toBe(0);
  expect(rows).toEqual(unitRows(2, 24));
});
