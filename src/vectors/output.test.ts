import { describe, expect, test } from 'bun:test';
import {
  areHalved,
  FloatBlock,
  faultOfOutput,
  faultOfRow,
  faultOfRows,
  headSet,
  outputsOfTexts,
} from './output.ts';
import { faultOfWeights } from './sparse.ts';

const DIMENSION = 4;
const EXPECTED = { dimension: DIMENSION, isNormalized: true };

function rowOf(...values: number[]): Float32Array {
  return Float32Array.from(values);
}

describe('a row', () => {
  test('of length one is right, and so is one that float16 has rounded', () => {
    expect(faultOfRow(rowOf(0.5, -0.5, 0.5, 0.5), EXPECTED)).toBeUndefined();
    expect(faultOfRow(rowOf(1.0009, 0, 0, 0), EXPECTED)).toBeUndefined();
    expect(faultOfRow(rowOf(0, 0, 0, 0.9991), EXPECTED)).toBeUndefined();
  });

  test.each([
    ['not finite', rowOf(Number.NaN, 1, 0, 0)],
    ['not finite', rowOf(0, Number.POSITIVE_INFINITY, 0, 0)],
    ['not finite', rowOf(0, 0, 0, Number.NEGATIVE_INFINITY)],
    ['zeros', rowOf(0, 0, -0, 0)],
    ['length 2', rowOf(2, 0, 0, 0)],
    ['length 0.5', rowOf(0.5, 0, 0, 0)],
    ['length 1.0', rowOf(1.003, 0, 0, 0)],
    ['3 components instead of 4', rowOf(1, 0, 0)],
    ['5 components instead of 4', rowOf(1, 0, 0, 0, 0)],
    ['0 components instead of 4', rowOf()],
  ])('that has %s is told', (words, row) => {
    expect(faultOfRow(row, EXPECTED)).toContain(words);
  });

  test('of a model that promises no length may have any but none', () => {
    const free = { dimension: DIMENSION, isNormalized: false };
    expect(faultOfRow(rowOf(3, 4, 0, 0), free)).toBeUndefined();
    expect(faultOfRow(rowOf(0, 0, 0, 0), free)).toContain('zeros');
    expect(faultOfRow(rowOf(Number.NaN, 0, 0, 0), free)).toContain('not finite');
  });

  test.each([1, 4, 7, 1024])('of %i components has each of them looked at', (dimension) => {
    const expected = { dimension, isNormalized: true };
    for (let place = 0; place < dimension; place++) {
      const row = new Float32Array(dimension);
      row[place] = 1;
      expect(faultOfRow(row, expected)).toBeUndefined();
      row[place] = Number.NaN;
      expect(faultOfRow(row, expected)).toContain('not finite');
    }
  });

  test('whose squares overflow is not taken for a vector', () => {
    const huge = rowOf(3e38, 3e38, 3e38, 3e38);
    expect(faultOfRow(huge, EXPECTED)).toBeDefined();
  });
});

describe('weights of tokens', () => {
  test('are at least zero and finite', () => {
    expect(faultOfWeights(rowOf(0, 0.3, 12))).toBeUndefined();
    expect(faultOfWeights(rowOf())).toBeUndefined();
    for (const wrong of [-1e-9, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(faultOfWeights(rowOf(0.1, wrong))).toBeDefined();
    }
  });
});

describe('vectors of tokens', () => {
  test('are each a row', () => {
    const two = rowOf(1, 0, 0, 0, 0, 1, 0, 0);
    expect(faultOfRows(two, 2, EXPECTED)).toBeUndefined();
    expect(faultOfRows(rowOf(1, 0, 0, 0, 0, 0, 0, 0), 2, EXPECTED)).toContain('zeros');
    expect(faultOfRows(two, 3, EXPECTED)).toContain('8 values for 3 tokens');
    expect(faultOfRows(rowOf(), 0, EXPECTED)).toBeUndefined();
  });
});

/** Caught, planted: the exact look skipped; halves of rows after the first block not written. */
describe('multi-vectors that are wanted as halves', () => {
  const heads = headSet(['multi_vector'], { halves: true });

  const halvesOf = (count: number) => new Float16Array(count).fill(Number.NaN);

  /** Two texts of 20 and 12 tokens; no row's numbers are those of another. */
  function outputsOf(dimension: number, scale = 1) {
    const values = Float32Array.from({ length: 2 * 19 * dimension }, (_, at) => {
      const row = Math.floor(at / dimension);
      return at % dimension === row % dimension ? scale : (at % 2 ? 1 : -1) * 1e-6 * (at % 7);
    });
    const batch = { texts: [new Int32Array(20), new Int32Array(12)], paddedLength: 20, heads };
    const rightOf = (text: number, count: number) =>
      new Float16Array(values.slice(text * 19 * dimension, (text * 19 + count) * dimension));
    const right = [rightOf(0, 19), rightOf(1, 11)];
    return {
      values,
      right,
      outputs: outputsOfTexts(batch, { multi_vector: FloatBlock.of(values) }, halvesOf),
    };
  }

  test.each([4, 16, 1024])('are checked and converted, rows of %i', (dimension) => {
    // The second length is one that only the exact look lets pass.
    for (const scale of [1, 1.00195]) {
      const { outputs, right } = outputsOf(dimension, scale);
      const expected = { dimension, isNormalized: true };
      expect(faultOfOutput(outputs[0], 20, expected)).toBeUndefined();
      expect(faultOfOutput(outputs[1], 12, expected)).toBeUndefined();
      expect(outputs.map(({ halves }) => halves)).toEqual(right);
    }
  });

  test.each([4, 1024])('are withheld with any row that is wrong, of %i values', (dimension) => {
    for (const wrongRow of [0, 9, 18]) {
      const { outputs, values, right } = outputsOf(dimension);
      values[wrongRow * dimension + 1] = Number.NaN;
      const expected = { dimension, isNormalized: true };
      expect(faultOfOutput(outputs[0], 20, expected)).toContain('not finite');
      expect(faultOfOutput(outputs[1], 12, expected)).toBeUndefined();
      expect(outputs[1].halves).toEqual(right[1]);
    }
  });

  test('are another set of heads than the same as float32', () => {
    expect(heads).toEqual(headSet(['multi_vector']));
    expect(heads).not.toBe(headSet(['multi_vector']));
    expect(heads).toBe(headSet(['multi_vector'], { halves: true }));
    expect(headSet(['dense'], { halves: true })).toBe(headSet(['dense']));
    expect([heads, headSet(['multi_vector'])].map(areHalved)).toEqual([true, false]);
  });
});
