import { describe, expect, test } from 'bun:test';
import { planRetryDelayMs } from './retry-delay.ts';

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
