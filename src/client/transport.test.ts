import { describe, expect, test } from 'bun:test';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { hedge, planRetryDelayMs } from './transport.ts';

interface Attempt {
  readonly signal: AbortSignal;
  readonly resolve: (result: string) => void;
  readonly reject: (error: Error) => void;
}

/** A hedged call whose attempts the test settles by hand. */
function startHedged() {
  const clock = new VirtualClock();
  const outer = new AbortController();
  const attempts: Attempt[] = [];
  const attempt = (signal: AbortSignal): Promise<string> => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    signal.addEventListener('abort', () => reject(signal.reason));
    attempts.push({ signal, resolve, reject });
    return promise;
  };
  const result = hedge({ clock, hedgeAfterMs: 50, signal: outer.signal, attempt });
  const outcome = result.catch((error: Error) => `failed: ${error.message}`);
  return { clock, outer, attempts, outcome };
}

describe('hedge', () => {
  test('an answer in time is the only one asked for', async () => {
    const { clock, attempts, outcome } = startHedged();
    await clock.advance(49);
    attempts[0].resolve('first');
    expect(await outcome).toBe('first');
    await clock.advance(1000);
    expect(attempts.length).toBe(1);
    expect(clock.plannedCount).toBe(0);
  });

  test('a late one is asked for once more, the faster counts and the other is aborted', async () => {
    const { clock, attempts, outcome } = startHedged();
    await clock.advance(50);
    expect(attempts.length).toBe(2);
    attempts[1].resolve('second');
    expect(await outcome).toBe('second');
    expect(attempts[0].signal.aborted).toBe(true);
    await clock.advance(1000);
    expect(attempts.length).toBe(2);
  });

  test('an early failure is not hedged', async () => {
    const { clock, attempts, outcome } = startHedged();
    attempts[0].reject(new Error('refused'));
    expect(await outcome).toBe('failed: refused');
    await clock.advance(1000);
    expect(attempts.length).toBe(1);
  });

  test('one failure of two waits for the other', async () => {
    const { clock, attempts, outcome } = startHedged();
    await clock.advance(50);
    attempts[0].reject(new Error('refused'));
    await clock.settle();
    attempts[1].resolve('second');
    expect(await outcome).toBe('second');
  });

  test('the signal from outside ends both', async () => {
    const { clock, outer, attempts, outcome } = startHedged();
    await clock.advance(50);
    outer.abort(new Error('the caller left'));
    expect(await outcome).toBe('failed: the caller left');
    expect(attempts.map(({ signal }) => signal.aborted)).toEqual([true, true]);
    expect(clock.plannedCount).toBe(0);
  });
});

const TIMING = { retryDelayMs: 500, retryDelayMsMax: 8000 };

function plan(failedCount: number, random: number, retryAfterMs?: number): number {
  return planRetryDelayMs({ timing: TIMING, failedCount, random, retryAfterMs });
}

describe('planRetryDelayMs', () => {
  test('doubles up to the longest wait', () => {
    const delays = [1, 2, 3, 4, 5, 6, 60].map((failedCount) => plan(failedCount, 0));
    expect(delays).toEqual([500, 1000, 2000, 4000, 8000, 8000, 8000]);
  });

  test('takes off at most half, by chance', () => {
    expect(plan(2, 0.5)).toBe(750);
    expect(plan(2, 0.999999)).toBeCloseTo(500, 2);
  });

  test('never comes back before the server wants it, and a little after', () => {
    expect(plan(1, 0, 20_000)).toBe(20_000);
    expect(plan(7, 0.5, 20_000)).toBe(20_250);
    expect(plan(3, 0, 0)).toBe(0);
  });
});
