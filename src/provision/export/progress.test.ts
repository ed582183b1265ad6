import { expect, test } from 'bun:test';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { sayWhile } from './progress.ts';

test('silent work is told of every ten seconds, until it ends', async () => {
  const clock = new VirtualClock();
  const said: string[] = [];
  const { promise, resolve } = Promise.withResolvers<string>();
  const options = { clock, say: (line: string) => said.push(line), words: 'building' };
  const told = sayWhile(options, () => promise);
  await clock.advance(9_999);
  expect(said).toEqual([]);
  await clock.advance(10_001);
  expect(said).toEqual(['  still building (10 s)', '  still building (20 s)']);
  resolve('plan');
  expect(await told).toBe('plan');
  expect(clock.plannedCount).toBe(0);
});

test('work that fails is told of no longer', async () => {
  const clock = new VirtualClock();
  const options = { clock, say: () => {}, words: 'building' };
  const failed = sayWhile(options, () => Promise.reject(new Error('planted')));
  expect(failed).rejects.toThrow('planted');
  await clock.settle();
  expect(clock.plannedCount).toBe(0);
});
