import { expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { DispatchPacing } from './pacing.ts';

const hold = (share: number) => {
  const clock = new VirtualClock();
  return { clock, hold: new DispatchPacing({ clock, share }) };
};

test('before anything was measured nothing is held', () => {
  const { hold: fresh } = hold(0.5);
  fresh.sent();
  expect(fresh.mayLeave(() => undefined)).toBe(true);
});

test('a batch is held for its share of the expected time, and then called', async () => {
  const { clock, hold: half } = hold(0.5);
  half.returned(10);
  half.sent();
  let calls = 0;
  expect(half.mayLeave(() => calls++)).toBe(false);
  // Asked again meanwhile, it is still one call.
  expect(half.mayLeave(() => calls++)).toBe(false);
  await clock.advance(4.9);
  expect(calls).toBe(0);
  await clock.advance(0.1);
  expect(calls).toBe(1);
  expect(half.mayLeave(() => calls++)).toBe(true);
});

test('a batch that comes back starts the time of the one behind it', async () => {
  const { clock, hold: half } = hold(0.5);
  half.returned(10);
  await clock.advance(100);
  half.returned(10);
  expect(half.mayLeave(() => undefined)).toBe(false);
});

test('a share of nothing holds nothing', () => {
  const { hold: none } = hold(0);
  none.returned(10);
  none.sent();
  expect(none.mayLeave(() => undefined)).toBe(true);
});
