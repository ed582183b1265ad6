import { expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { DispatchPacing } from './pacing.ts';

/** A pacing that has seen a batch of cost 100 take 10 ms. */
const learnt = async (share: number) => {
  const clock = new VirtualClock();
  const pacing = new DispatchPacing({ clock, share });
  const send = (cost: number, endpointCount = 1) => {
    const batch = {};
    pacing.sent(batch, { cost, endpointCount });
    return { back: () => pacing.returned(batch, true) };
  };
  const first = send(100);
  await clock.advance(10);
  first.back();
  return { clock, pacing, send };
};
const never = (): void => undefined;

test('before anything was measured nothing is held', () => {
  const fresh = new DispatchPacing({ clock: new VirtualClock(), share: 0.5 });
  fresh.sent({}, { cost: 100, endpointCount: 1 });
  expect(fresh.mayLeave(never)).toBe(true);
});

test('a batch is held for its share of the time of the one that runs, and then called', async () => {
  const { clock, pacing, send } = await learnt(0.5);
  send(100);
  let calls = 0;
  expect(pacing.mayLeave(() => calls++)).toBe(false);
  // Asked again meanwhile, it is still one call.
  expect(pacing.mayLeave(() => calls++)).toBe(false);
  await clock.advance(4.9);
  expect(calls).toBe(0);
  await clock.advance(0.1);
  expect(calls).toBe(1);
  expect(pacing.mayLeave(() => calls++)).toBe(true);
});

test('behind a dear batch it is held until shortly before the end', async () => {
  const { clock, pacing, send } = await learnt(0.5);
  // 200 ms, of which 85 % less 5 ms.
  send(2_000);
  let atMs = 0;
  expect(pacing.mayLeave(() => (atMs = clock.now()))).toBe(false);
  await clock.advance(1_000);
  expect(atMs).toBeCloseTo(10 + 165, 6);
});

test('a batch that comes back starts the time of the one behind it', async () => {
  const { clock, pacing, send } = await learnt(0.5);
  const [first] = [send(100), send(100)];
  await clock.advance(100);
  first.back();
  expect(pacing.mayLeave(never)).toBe(false);
});

test('of several endpoints the first to end decides', async () => {
  const { clock, pacing, send } = await learnt(0.5);
  send(2_000, 2);
  send(100, 2);
  expect(pacing.mayLeave(never)).toBe(false);
  await clock.advance(5);
  expect(pacing.mayLeave(never)).toBe(true);
});

test('what failed tells no time', async () => {
  const { clock, pacing, send } = await learnt(0.5);
  const batch = {};
  pacing.sent(batch, { cost: 100, endpointCount: 1 });
  await clock.advance(10_000);
  pacing.returned(batch, false);
  send(100);
  await clock.advance(5);
  expect(pacing.mayLeave(never)).toBe(true);
});

test('a share of nothing holds nothing', async () => {
  const { pacing, send } = await learnt(0);
  send(100);
  expect(pacing.mayLeave(never)).toBe(true);
});
