import { expect, test } from 'bun:test';
import { HABITS, runHold } from './hold-load.ts';

/**
 * A caller who sends its corpus at once to a machine whose speed is not known yet, and is half the
 * usual one. All ways and loads: `scripts/sim/hold-sim.ts`. Were all that fit let in, they would
 * share the time and miss their deadlines together: of the AI SDK's 19 calls 10 were answered, with
 * eight times 504; of the calls of 256 none.
 */

const SLOW = {
  ...{ textCount: 40_000, tokens: 36, slow: 2 },
  ...{ holdMs: 60_000, requestTimeoutMs: 60_000 },
};

test.each([
  ['AI SDK', 17],
  ['gather of 16', 2400],
  ['no second try', 40],
])('%s: what is let in is answered, one call after the other', async (name, least) => {
  const habit = HABITS.find((one) => one.name === name) ?? HABITS[0];
  const { doneCount, lateCount, queryP99 } = await runHold({ ...SLOW, habit });
  expect(lateCount).toBe(0);
  expect(doneCount).toBeGreaterThanOrEqual(least);
  expect(queryP99).toBeLessThan(25);
});
