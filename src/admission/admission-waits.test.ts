import { describe, expect, test } from 'bun:test';
import { admissionHarness as harness, hold, one, refusalOf } from '../testing/admission-harness.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a drain rate that
 * counts idle time, or what departed callers leave behind; a Retry-After that is the same for all.
 */

describe('when to come back', () => {
  /** So many tokens a ms leave while others wait. */
  async function drain(it: ReturnType<typeof harness>, tokensPerMs: number): Promise<void> {
    it.backlog.waitingTextCount = 1;
    for (let step = 0; step < 60; step++) {
      const permit = it.admission.admit({ textCount: 1, tokenCount: 50 * tokensPerMs });
      await it.clock.advance(50);
      permit.release();
    }
  }

  test.each([10, 100])('at %d tokens a ms it is the queue over the rate', async (rate) => {
    const it = harness({ tokenCountMax: 100_000 });
    await drain(it, rate);
    const held = hold(it.admission, 100_000);
    const refusals = Array.from({ length: 20 }, () =>
      refusalOf(it.admission, { textCount: 1, tokenCount: 1000 }),
    );
    const waits = refusals.map((error) => error?.details.retryAfterMs ?? 0);
    const aloneMs = 1000 / rate;
    expect(waits[0]).toBeGreaterThanOrEqual(Math.max(50, aloneMs * 0.7));
    expect(waits[0]).toBeLessThanOrEqual(Math.max(50, aloneMs * 1.5));
    // Each one refused before will be back as well.
    expect(waits[19]).toBeGreaterThan(aloneMs * 10);
    held.release();
  });

  test('those who are refused together do not come back together', async () => {
    const it = harness({ tokenCountMax: 100_000 });
    await drain(it, 100);
    const held = hold(it.admission, 100_000);
    const waits = Array.from({ length: 300 }, () => {
      const error = refusalOf(it.admission, { textCount: 1, tokenCount: 1000 });
      return error?.details.retryAfterMs;
    });
    expect(new Set(waits.slice(-100)).size).toBeGreaterThan(80);
    held.release();
  });

  test('idle time and departed callers do not count as drained', async () => {
    const it = harness({ tokenCountMax: 1_000_000 });
    await drain(it, 10);
    it.backlog.waitingTextCount = 0;
    it.admission.admit(one()).release();
    await it.clock.advance(100_000);
    it.backlog.waitingTextCount = 1;
    for (let step = 0; step < 20; step++) {
      const departing = it.admission.admit({ textCount: 1, tokenCount: 50_000 });
      const worked = it.admission.admit({ textCount: 1, tokenCount: 500 });
      await it.clock.advance(50);
      departing.release(false);
      worked.release();
    }
    const held = hold(it.admission, 1_000_000);
    const waitMs = refusalOf(it.admission, { textCount: 1, tokenCount: 1000 })?.details
      .retryAfterMs;
    expect(waitMs).toBeGreaterThan(70);
    expect(waitMs).toBeLessThan(150);
    held.release();
  });

  test('more than drains within the deadline is not admitted', async () => {
    const it = harness({ tokenCountMax: 10_000_000, timeoutMs: 1000 });
    await drain(it, 10);
    const held = hold(it.admission, 4000);
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 900 })).toBeUndefined();
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 1100 })).toMatchObject({
      code: 'EMB_QUEUE_FULL',
    });
    held.release();
  });

  test('a request that alone takes longer is admitted once few others are there', async () => {
    const it = harness({ tokenCountMax: 10_000_000, timeoutMs: 1000 });
    await drain(it, 10);
    const large = { textCount: 1, tokenCount: 50_000 };
    const others = hold(it.admission, 4000);
    expect(refusalOf(it.admission, large)?.code).toBe('EMB_QUEUE_FULL');
    others.release();
    const few = hold(it.admission, 400);
    const permit = it.admission.admit(large);
    // It is not all of what drains in time, either.
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 500 })).toBeUndefined();
    permit.release();
    few.release();
  });

  test('what is cut off does not count as drained', async () => {
    const it = harness({ tokenCountMax: 1_000_000 });
    it.backlog.waitingTextCount = 1;
    for (let step = 0; step < 60; step++) {
      const book = it.admission.admit({ textCount: 1, tokenCount: 90_000, workTokenCount: 500 });
      await it.clock.advance(50);
      book.release();
    }
    const held = hold(it.admission, 1_000_000);
    const waitMs = refusalOf(it.admission, { textCount: 1, tokenCount: 1000 })?.details
      .retryAfterMs;
    expect(waitMs).toBeGreaterThan(70);
    expect(waitMs).toBeLessThan(150);
    held.release();
  });

  test('a caller in a hurry is refused when texts are later than it can wait', () => {
    const it = harness();
    const held = it.admission.admit(one());
    Object.assign(it.backlog, { waitingTextCount: 1, latenessMs: 500 });
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 1000 })).toBeUndefined();
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 400 })?.code).toBe('EMB_QUEUE_FULL');
    held.release();
  });
});
