import { expect, test } from 'bun:test';
import { dueTimesOf } from './arrivals.ts';
import { latenciesOf, medianOf, TimesByKind } from './latencies.ts';

test('percentiles are times that occurred, by nearest rank', () => {
  const times = Float64Array.from({ length: 1000 }, (_, index) => 1000 - index);
  expect(latenciesOf(times)).toEqual({
    count: 1000,
    mean: 500.5,
    p50: 500,
    p90: 900,
    p99: 990,
    p999: 999,
    max: 1000,
  });
  expect(latenciesOf(Float64Array.of(7))).toMatchObject({ p50: 7, p999: 7, max: 7 });
  expect(latenciesOf(new Float64Array())).toMatchObject({ count: 0, max: 0 });
});

test('times of a kind are all kept, past every growth of the array', () => {
  const times = new TimesByKind();
  for (let ms = 1; ms <= 5000; ms++) times.add(ms % 2 === 0 ? 'even' : 'odd', ms);
  const { even, odd } = times.summary();
  expect(even).toMatchObject({ count: 2500, mean: 2501, max: 5000 });
  expect(odd).toMatchObject({ count: 2500, mean: 2500, max: 4999 });
});

test('the median of two is the lower one, of none no number', () => {
  expect(medianOf([3, 1, 2])).toBe(2);
  expect(medianOf([4, 1])).toBe(1);
  expect(medianOf([])).toBeNaN();
});

test('a fixed arrival is even; a Poisson one has its rate and its spread, and replays', () => {
  const take = (kind: 'fixed' | 'poisson', seed: number): number[] => {
    const times = dueTimesOf({ kind, requestsPerSecond: 100 }, seed);
    return Array.from({ length: 10_001 }, () => times.next().value);
  };
  expect(take('fixed', 1).slice(0, 4)).toEqual([0, 10, 20, 30]);
  const poisson = take('poisson', 1);
  expect(poisson).toEqual(take('poisson', 1));
  const gaps = poisson.slice(1).map((time, index) => time - poisson[index]);
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  // An exponential gap's deviation is its mean; ten thousand of them come within 5 % of both.
  expect(mean).toBeWithin(9.5, 10.5);
  expect(Math.sqrt(variance)).toBeWithin(9.5, 10.5);
});
