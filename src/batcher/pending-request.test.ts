import { expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { RequestRows } from './pending-request.ts';

/** Caught, planted: memory given back twice; dense rows one place further; a place too short. */
const DIMENSION = 8;
const REQUESTS_MAX = 12;

/** A request under way, and the numbers that it must have. */
interface Held {
  readonly rows: RequestRows;
  readonly views: (Float32Array | undefined)[];
  readonly numbers: (readonly number[])[];
}

test('no request sees the numbers of another, however their memory goes round', () => {
  const random = seededRandom(7);
  const held: Held[] = [];
  let next = 1;
  for (let step = 0; step < 3000; step++) {
    if (held.length === REQUESTS_MAX || (held.length > 0 && random.below(2) === 0)) {
      const [{ rows, views, numbers }] = held.splice(random.below(held.length), 1);
      expect(views.map((view) => [...(view ?? [])])).toEqual(numbers.map((row) => [...row]));
      rows.giveBack();
      rows.giveBack();
      continue;
    }
    const textCount = 1 + random.below(5);
    const rows = new RequestRows(textCount);
    const [views, numbers]: [(Float32Array | undefined)[], number[][]] = [[], []];
    for (let index = textCount; index-- > 0; ) {
      const dense = new Float32Array(DIMENSION).fill(next++);
      const vectors = new Float32Array(DIMENSION * random.below(4)).fill(next++);
      const copy = rows.put(index, { dense, multi_vector: vectors });
      views.push(copy.dense, copy.multi_vector);
      numbers.push([...dense], [...vectors]);
      dense.fill(Number.NaN);
      vectors.fill(Number.NaN);
    }
    held.push({ rows, views, numbers });
  }
});

test('the dense rows of a request follow one another in memory', () => {
  const rows = new RequestRows(3);
  const views = [2, 0, 1].map((index) => rows.put(index, { dense: new Float32Array(DIMENSION) }));
  expect(views.map(({ dense }) => (dense?.byteOffset ?? 0) / 4)).toEqual([16, 0, 8]);
});

test('halves of which there is no float32, as the row cache has them, are copied beside a row', () => {
  const output = { dense: Float32Array.of(1, 0), halves: Float16Array.of(0, 1, 1, 0) };
  const copy = new RequestRows(1).put(0, output);
  expect(copy).toEqual(output);
  expect(copy.halves?.buffer).not.toBe(output.halves.buffer);
});
