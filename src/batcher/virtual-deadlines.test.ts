import { expect, test } from 'bun:test';
import { VirtualDeadlines } from './pacing.ts';

test('patience is in proportion to the tokens', () => {
  const times = new VirtualDeadlines();
  expect(times.patienceMs(640)).toBeCloseTo(10 * times.patienceMs(64), 9);
  expect(times.patienceMs(8)).toBeGreaterThan(0);
});

test('it follows the backend: twice as slow, twice as patient', () => {
  const slow = new VirtualDeadlines();
  const fast = new VirtualDeadlines();
  for (let batch = 0; batch < 40; batch++) {
    slow.learn(1000, 100);
    fast.learn(1000, 50);
  }
  expect(slow.patienceMs(64) / fast.patienceMs(64)).toBeCloseTo(2, 2);
});

test('a batch that took no time at all is no infinite rate', () => {
  const times = new VirtualDeadlines();
  for (let batch = 0; batch < 10; batch++) times.learn(1000, 0);
  expect(times.patienceMs(8)).toBeGreaterThan(0);
  expect(Number.isFinite(times.patienceMs(8))).toBe(true);
});
