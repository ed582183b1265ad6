import { describe, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { openCallScope } from './call-scope.ts';

describe('openCallScope', () => {
  test('ends with its parent, before and after it was opened', () => {
    const clock = new VirtualClock();
    const parent = new AbortController();
    const before = openCallScope({ clock, parent: parent.signal });
    const reason = new Error('gone');
    parent.abort(reason);
    const after = openCallScope({ clock, parent: parent.signal });
    expect([before.signal.reason, after.signal.reason]).toEqual([reason, reason]);
  });

  test('counts its time down and ends by it; the first reason stays', async () => {
    const clock = new VirtualClock();
    const scope = openCallScope({ clock, totalTimeoutMs: 100 });
    await clock.advance(60);
    expect(scope.remainingMs()).toBe(40);
    await clock.advance(40);
    scope.end(new Error('later'));
    expect(scope.signal.reason).toMatchObject({ code: 'CLIENT_TOTAL_TIMEOUT', limit: 100 });
  });

  test('without a total has no timer and no end', () => {
    const clock = new VirtualClock();
    expect(openCallScope({ clock }).remainingMs()).toBe(Infinity);
    expect(clock.plannedCount).toBe(0);
  });

  test('once released hears neither its parent nor its time', async () => {
    const clock = new VirtualClock();
    const parent = new AbortController();
    const scope = openCallScope({ clock, totalTimeoutMs: 100, parent: parent.signal });
    scope.release();
    parent.abort();
    await clock.advance(1000);
    expect(scope.signal.aborted).toBe(false);
  });
});
