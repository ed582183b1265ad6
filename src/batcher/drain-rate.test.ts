import { expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { DrainRate } from './pacing.ts';

/** A rate, and a way to let a batch come back after so many ms. */
function harness() {
  const clock = new VirtualClock();
  const rate = new DrainRate(clock);
  const learn = async (tokenCount: number, inferMs: number, batchCount = 1): Promise<void> => {
    await clock.advance(inferMs / batchCount);
    rate.learn({ tokenCount, inferMs, batchCount });
  };
  return { clock, rate, learn };
}

test('a moment measures nothing, however much or little was done in it', async () => {
  const { rate, learn } = harness();
  const guess = rate.tokensPerMs;
  await learn(1, 400);
  expect(rate).toMatchObject({ isMeasured: false, tokensPerMs: guess });
  await learn(4999, 100);
  expect(rate.isMeasured).toBe(true);
  expect(rate.tokensPerMs).toBeCloseTo(10, 9);
});

test('batches beside each other share the time', async () => {
  const { rate, learn } = harness();
  for (let batch = 0; batch < 20; batch++) await learn(1000, 100, 2);
  expect(rate.tokensPerMs).toBeCloseTo(20, 9);
});

test('it is forgotten after a pause, and then learned anew at once', async () => {
  const { clock, rate, learn } = harness();
  await learn(1, 600);
  expect(rate.isMeasured).toBe(true);
  await clock.advance(40_000);
  expect(rate.isMeasured).toBe(false);
  await learn(50_000, 500);
  expect(rate.tokensPerMs).toBeCloseTo(100, 9);
});

test('however slow a batch, the rate stays one to divide by', async () => {
  const { rate, learn } = harness();
  await learn(1, 1e12);
  expect(rate.isMeasured).toBe(true);
  expect(1000 / rate.tokensPerMs).toBeLessThan(1e6);
  for (let span = 0; span < 10; span++) await learn(50_000, 500);
  expect(rate.tokensPerMs).toBeGreaterThan(90);
});
