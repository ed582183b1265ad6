import { describe, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { createCancellation, onAbort } from './cancellation.ts';

describe('createCancellation', () => {
  test('ends with its parent, before and after it was opened', () => {
    const clock = new VirtualClock();
    const parent = new AbortController();
    const before = createCancellation({ clock, parent: parent.signal });
    const reason = new Error('gone');
    parent.abort(reason);
    const after = createCancellation({ clock, parent: parent.signal });
    expect([before.signal.reason, after.signal.reason]).toEqual([reason, reason]);
  });

  test('counts its time down and ends by it; the first reason stays', async () => {
    const clock = new VirtualClock();
    const cancellation = createCancellation({ clock, totalTimeoutMs: 100 });
    await clock.advance(60);
    expect(cancellation.remainingMs()).toBe(40);
    await clock.advance(40);
    cancellation.cancel(new Error('later'));
    expect(cancellation.signal.reason).toMatchObject({ code: 'CLIENT_TOTAL_TIMEOUT', limit: 100 });
  });

  test('without a total has no timer and no end', () => {
    const clock = new VirtualClock();
    expect(createCancellation({ clock }).remainingMs()).toBe(Infinity);
    expect(clock.plannedCount).toBe(0);
  });

  test('once released hears neither its parent nor its time', async () => {
    const clock = new VirtualClock();
    const parent = new AbortController();
    const cancellation = createCancellation({ clock, totalTimeoutMs: 100, parent: parent.signal });
    cancellation.release();
    parent.abort();
    await clock.advance(1000);
    expect(cancellation.signal.aborted).toBe(false);
  });
});

describe('onAbort', () => {
  test('calls everyone who still waits, once, through one listener', () => {
    const controller = new AbortController();
    const { signal } = controller;
    let listenerCount = 0;
    const add = signal.addEventListener.bind(signal);
    signal.addEventListener = (...given: Parameters<typeof add>) => {
      listenerCount++;
      add(...given);
    };
    const called: number[] = [];
    const takeBacks = Array.from({ length: 20 }, (_, index) =>
      onAbort(signal, () => called.push(index)),
    );
    takeBacks[3]();
    takeBacks[3]();
    expect(listenerCount).toBe(1);
    controller.abort();
    expect(called).toEqual(Array.from({ length: 20 }, (_, index) => index).filter((n) => n !== 3));
  });

  test('one shared function is two waits', () => {
    const controller = new AbortController();
    let count = 0;
    const action = (): void => {
      count++;
    };
    onAbort(controller.signal, action)();
    onAbort(controller.signal, action);
    controller.abort();
    expect(count).toBe(1);
  });

  test('calls at once when the signal has fired', () => {
    let isCalled = false;
    onAbort(AbortSignal.abort(), () => {
      isCalled = true;
    })();
    expect(isCalled).toBe(true);
  });
});
