import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { BACKGROUND } from '../batcher-harness.ts';
import { checkBackground } from './background-check.ts';
import { compareWithJob, LOADS } from './background-load.ts';

/** Background texts beside queries; `bun scripts/sim/background-sim.ts` runs many seeds. */

setDefaultTimeout(120_000);

test.each([1, 2, 3, 4, 5, 6])('what must hold holds, seed %d', async (seed) => {
  await checkBackground(seed);
});

describe('what a job costs queries, and what it gets', () => {
  test.each(LOADS.slice(2).map((load) => [load.name, load] as const))('%s', async (_name, load) => {
    const measureMs = load.perMs > 1 ? 6_000 : 30_000;
    const limits = { ...BACKGROUND, waitMs: 1_000 };
    const found = await compareWithJob({ seed: 1, queries: load, limits, measureMs });
    expect(found.p99Beside / found.p99).toBeLessThan(1.2);
    expect(found.jobPart).toBeGreaterThan(0.9 * found.leftPart);
  });
});
