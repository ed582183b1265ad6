import { beforeEach, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createCancellation } from './clock.ts';
import { ServerError } from './errors.ts';

let clock: VirtualClock;
let controller: AbortController;
let reasons: ServerError[];

beforeEach(() => {
  clock = new VirtualClock();
  controller = new AbortController();
  reasons = [];
});

function start(timeoutMs = 100) {
  const cancellation = createCancellation({ clock, timeoutMs, signal: controller.signal });
  cancellation.whenEnded((reason) => reasons.push(reason));
  return cancellation;
}

test('ends at its deadline, not before, once', async () => {
  const cancellation = start();
  await clock.advance(99);
  expect([cancellation.ended, reasons.length]).toEqual([undefined, 0]);
  await clock.advance(1);
  expect(cancellation.ended).toBeInstanceOf(ServerError);
  expect(cancellation.ended).toMatchObject({
    code: 'EMB_DEADLINE_EXCEEDED',
    details: { limit: 100 },
  });
  controller.abort();
  await clock.advance(1000);
  expect(reasons).toHaveLength(1);
});

test('tells its deadline in whole ms, whatever was left of it', async () => {
  const cancellation = start(99.48050099999818);
  await clock.advance(100);
  const { message, details } = cancellation.ended ?? {};
  expect([message, details]).toEqual(['The request took longer than 100 ms.', { limit: 100 }]);
});

test('ends when the caller hangs up, and the deadline is forgotten', async () => {
  const cancellation = start();
  controller.abort();
  expect(reasons.map(({ code }) => code)).toEqual(['EMB_REQUEST_ABORTED']);
  expect(cancellation.ended).toBe(reasons[0]);
  expect(clock.plannedCount).toBe(0);
});

test('is over from the start when the caller has gone already', () => {
  controller.abort();
  expect(start().ended?.code).toBe('EMB_REQUEST_ABORTED');
  expect(reasons).toHaveLength(1);
  expect(clock.plannedCount).toBe(0);
});

test('tells the last who asked, also one who asks afterwards', async () => {
  const cancellation = start();
  const last: ServerError[] = [];
  cancellation.whenEnded((reason) => last.push(reason));
  await clock.advance(100);
  expect([reasons.length, last.length]).toEqual([0, 1]);
  cancellation.whenEnded((reason) => last.push(reason));
  expect(last).toHaveLength(2);
});

test('released, it leaves neither timer nor listener, and tells nobody', async () => {
  const cancellation = start();
  cancellation.release();
  cancellation.release();
  expect(clock.plannedCount).toBe(0);
  controller.abort();
  await clock.advance(1000);
  expect([cancellation.ended, reasons.length]).toEqual([undefined, 0]);
});

test('without a signal there is the deadline alone', async () => {
  const cancellation = createCancellation({ clock, timeoutMs: 5 });
  await clock.advance(5);
  expect(cancellation.ended?.code).toBe('EMB_DEADLINE_EXCEEDED');
});
