import { expect, test } from 'bun:test';
import { RunningHistogram } from './metric-book.ts';

test('a histogram puts a value into the first bucket that holds it, its bound included', () => {
  const histogram = new RunningHistogram([1, 2, 4]);
  for (const value of [0.5, 1, 1.5, 4, 4.1, 100]) histogram.observe(value);
  const values = histogram.samples('h', {}).map(({ value }) => value);
  expect(values).toEqual([2, 3, 4, 6, 111.1, 6]);
});
