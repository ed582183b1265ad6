import { expect, test } from 'bun:test';
import { MACHINES, runCallers } from './callers-load.ts';

/**
 * A query each 100 ms beside another caller's burst of ten times the queue. All ways and loads:
 * `scripts/sim/callers-sim.ts`. A batch that runs cannot be called back: on one Triton a query
 * waits for what is left of one, and then its own batch takes what it takes alone.
 */

const BURST = { textCount: 10_240, perCall: 16, tokens: [5, 12] } as const;

test.each([
  ['timed', 2.8],
  ['gpu', 3.5],
  ['spare', 1.5],
] as const)('%s: the query takes at most %d times as long as alone', async (name, timesMax) => {
  const machine = MACHINES[name];
  const quiet = await runCallers({ machine });
  const beside = await runCallers({ machine, burst: BURST });
  expect(beside.refusedCount).toBe(0);
  expect(beside.p99 / quiet.p99).toBeLessThan(timesMax);
  // And the burst goes through nearly as fast as if no caller were known.
  const blind = await runCallers({ machine, burst: BURST, isBlind: true });
  expect(beside.burstMs).toBeLessThan(1.07 * blind.burstMs);
});
