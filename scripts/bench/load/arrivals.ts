import { type SeededRandom, seededRandom } from '../../../src/testing/seeded-random.ts';
import type { Arrival } from './load-plan.ts';

/** Steps of a random number from 0 to 1: far finer than the gaps that come of it. */
const STEPS = 2_000_000_000;

/** When the requests of an open load are due, in ms from its start, one after the other. */
export function* dueTimesOf(
  arrival: Exclude<Arrival, { kind: 'closed' }>,
  seed: number,
): Generator<number, never> {
  const gapMs = 1000 / arrival.requestsPerSecond;
  const random = seededRandom(seed);
  for (let dueMs = 0; ; ) {
    yield dueMs;
    dueMs += arrival.kind === 'fixed' ? gapMs : gapMs * exponential(random);
  }
}

/** Mean 1. */
function exponential(random: SeededRandom): number {
  return -Math.log((random.below(STEPS) + 1) / STEPS);
}
