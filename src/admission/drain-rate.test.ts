import { expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { DrainRate } from './admission.ts';

/** A rate, and a way to let so many tokens leave after so many busy ms. */
function harness() {
  const clock = new VirtualClock();
  const rate = new DrainRate(clock);
  rate.note(0, true);
  const leave = async (tokenCount: number, afterMs: number): Promise<void> => {
    await clock.advance(afterMs);
    rate.note(tokenCount, true);
  };
  return { rate, leave };
}

test('time in which only departed callers leave measures nothing yet', async () => {
  const { rate, leave } = harness();
  const guess = rate.tokensPerMs;
  for (let step = 0; step < 5; step++) await leave(0, 400);
  expect(rate.tokensPerMs).toBe(guess);
  expect(rate.isMeasured).toBe(false);
  // That time counts once something does leave: it took so long.
  await leave(20_000, 0);
  expect(rate.tokensPerMs).toBeCloseTo(10, 9);
});

test('however long nothing leaves, the rate stays one to divide by', async () => {
  const { rate, leave } = harness();
  await leave(1, 1e12);
  expect(rate.isMeasured).toBe(true);
  expect(1000 / rate.tokensPerMs).toBeLessThan(1e6);
  // And the next spans bring it back.
  for (let span = 0; span < 10; span++) await leave(50_000, 500);
  expect(rate.tokensPerMs).toBeGreaterThan(90);
});
