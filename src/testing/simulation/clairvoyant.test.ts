import { expect, test } from 'bun:test';
import { seededRandom } from '../seeded-random.ts';
import { batchMs, clairvoyantSchedule, type ScheduleModel } from './clairvoyant.ts';

const MODEL: ScheduleModel = {
  launchMs: 4,
  tokensPerSecond: 120_000,
  batchTextsMax: 3,
  batchTokensMax: 600,
};

/** The best of every partition there is: slow, and sure. */
function bestOfAll(tokenCounts: readonly number[]): number {
  const [first, ...others] = tokenCounts;
  if (first === undefined) return 0;
  let bestMs = Number.POSITIVE_INFINITY;
  for (let mask = 0; mask < 1 << others.length; mask++) {
    const batch = [first, ...others.filter((_, index) => (mask >> index) & 1)];
    const rest = others.filter((_, index) => !((mask >> index) & 1));
    const longest = Math.max(...batch);
    const isTooLarge = batch.length > 1 && longest * batch.length > MODEL.batchTokensMax;
    if (batch.length > MODEL.batchTextsMax || isTooLarge) continue;
    bestMs = Math.min(bestMs, batchMs({ longest, count: batch.length }, MODEL) + bestOfAll(rest));
  }
  return bestMs;
}

test('no partition of any kind is faster', () => {
  const random = seededRandom(5);
  for (let round = 0; round < 30; round++) {
    const counts = Array.from({ length: random.between(1, 7) }, () => random.between(2, 700));
    const { totalMs, batches } = clairvoyantSchedule(counts, MODEL);
    expect(totalMs).toBeCloseTo(bestOfAll(counts), 9);
    expect(batches.flat()).toEqual([...counts].sort((a, b) => a - b));
  }
});

test('a text over the token limit goes alone', () => {
  const { batches } = clairvoyantSchedule([10, 900, 10], MODEL);
  expect(batches).toEqual([[10, 10], [900]]);
});
