import { beforeEach, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { ServerError } from './errors.ts';
import { createLifetime } from './lifetime.ts';

let clock: VirtualClock;
let controller: AbortController;
let reasons: ServerError[];

beforeEach(() => {
  clock = new VirtualClock();
  controller = new AbortController();
  reasons = [];
});

function start(timeoutMs = 100) {
  const lifetime = createLifetime({ clock, timeoutMs, signal: controller.signal });
  lifetime.whenEnded((reason) => reasons.push(reason));
  return lifetime;
}

test('ends at its deadline, not before, once', async () => {
  const lifetime = start();
  await clock.advance(99);
  expect([lifetime.ended, reasons.length]).toEqual([undefined, 0]);
  await clock.advance(1);
  expect(lifetime.ended).toBeInstanceOf(ServerError);
  expect(lifetime.ended).toMatchObject({ code: 'EMB_DEADLINE_EXCEEDED', details: { limit: 100 } });
  controller.abort();
  await clock.advance(1000);
  expect(reasons).toHaveLength(1);
});

test('ends when the caller hangs up, and the deadline is forgotten', async () => {
  const lifetime = start();
  controller.abort();
  expect(reasons.map(({ code }) => code)).toEqual(['EMB_REQUEST_ABORTED']);
  expect(lifetime.ended).toBe(reasons[0]);
  expect(clock.plannedCount).toBe(0);
});

test('is over from the start when the caller has gone already', () => {
  controller.abort();
  expect(start().ended?.code).toBe('EMB_REQUEST_ABORTED');
  expect(reasons).toHaveLength(1);
  expect(clock.plannedCount).toBe(0);
});

test('tells the last who asked, also one who asks afterwards', async () => {
  const lifetime = start();
  const last: ServerError[] = [];
  lifetime.whenEnded((reason) => last.push(reason));
  await clock.advance(100);
  expect([reasons.length, last.length]).toEqual([0, 1]);
  lifetime.whenEnded((reason) => last.push(reason));
  expect(last).toHaveLength(2);
});

test('released, it leaves neither timer nor listener, and tells nobody', async () => {
  const lifetime = start();
  lifetime.release();
  lifetime.release();
  expect(clock.plannedCount).toBe(0);
  controller.abort();
  await clock.advance(1000);
  expect([lifetime.ended, reasons.length]).toEqual([undefined, 0]);
});

test('without a signal there is the deadline alone', async () => {
  const lifetime = createLifetime({ clock, timeoutMs: 5 });
  await clock.advance(5);
  expect(lifetime.ended?.code).toBe('EMB_DEADLINE_EXCEEDED');
});
