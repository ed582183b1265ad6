import { describe, expect, test } from 'bun:test';
import { onAbort } from './on-abort.ts';

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
