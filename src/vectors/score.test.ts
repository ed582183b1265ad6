import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { denseScore, multiVectorScore, sparseScore, weightedScore } from './score.ts';

/**
 * The scores against the formulas written plainly. Faults that were planted in the code by hand,
 * and that this suite caught: a best dot product that starts at 0; rows past the query's last that
 * are counted; a step that forgets a row of the text.
 */

const random = seededRandom(7);

function vectors(rowCount: number, dimension: number): number[][] {
  const value = (): number => Math.fround(random.below(2001) / 1000 - 1);
  return Array.from({ length: rowCount }, () => Array.from({ length: dimension }, value));
}

/** `colbert_score`, word for word. */
function plainMultiVectorScore(query: number[][], text: number[][]): number {
  const dot = (a: number[], b: number[]): number =>
    a.reduce((sum, value, index) => sum + value * b[index], 0);
  const best = query.map((row) => Math.max(...text.map((other) => dot(row, other))));
  return best.reduce((sum, value) => sum + value, 0) / query.length;
}

function runAll(query: number[][], text: number[][], productsPerStep: number) {
  const pair = {
    query: Float32Array.from(query.flat()),
    text: Float32Array.from(text.flat()),
    dimension: query[0].length,
  };
  const steps = multiVectorScore(pair, productsPerStep);
  let stepCount = 0;
  let step = steps.next();
  for (; !step.done; step = steps.next()) stepCount++;
  return { score: step.value, stepCount };
}

describe('multi-vector', () => {
  test('is the formula, for every number of rows about four and in steps of any size', () => {
    for (let queryCount = 1; queryCount <= 9; queryCount++) {
      for (const [textCount, dimension] of [
        [1, 1],
        [3, 5],
        [8, 32],
        [17, 6],
      ]) {
        const query = vectors(queryCount, dimension);
        const text = vectors(textCount, dimension);
        const wanted = plainMultiVectorScore(query, text);
        for (const productsPerStep of [1, 100, 1e9]) {
          expect(runAll(query, text, productsPerStep).score).toBeCloseTo(wanted, 10);
        }
      }
    }
  });

  test('of rows that point away from each other is negative', () => {
    expect(runAll([[1, 0]], [[-1, 0]], 1e9).score).toBe(-1);
  });

  test('lets others have a turn inside one text', () => {
    const { stepCount } = runAll(vectors(9, 16), vectors(100, 16), 1000);
    // Three rounds of four rows against 100 rows of 16 numbers, about a thousand products a step.
    expect(stepCount).toBe(Math.floor((3 * 100 * 4 * 16) / 1024));
  });
});

test('dense is the dot product', () => {
  expect(denseScore(Float32Array.of(1, 2, 3), Float32Array.of(4, -5, 6))).toBe(12);
});

test('sparse is the sum over shared ids, in whatever order they are', () => {
  const query = { indices: Int32Array.of(4, 7, 9), values: Float32Array.of(0.5, 2, 1) };
  const text = { indices: Int32Array.of(9, 5, 7), values: Float32Array.of(3, 8, 0.25) };
  expect(sparseScore(query, text)).toBe(3.5);
  const none = { indices: Int32Array.of(), values: Float32Array.of() };
  expect([sparseScore(query, none), sparseScore(none, text)]).toEqual([0, 0]);
});

test('weighted is the mean by weights', () => {
  expect(weightedScore([1, 2, 4], [1, 0, 3])).toBe(13 / 4);
});
