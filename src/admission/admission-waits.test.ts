import { describe, expect, test } from 'bun:test';
import { admissionHarness as harness, hold, one, refusalOf } from '../testing/admission-harness.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a rate that was
 * never measured and refuses; refusals that are never forgotten; a Retry-After that is the same for
 * all.
 */

describe('when to come back', () => {
  /** An admission in front of a backend that was seen to do so many tokens a ms. */
  function measured(tokensPerMs: number, limits: Parameters<typeof harness>[0]) {
    const it = harness(limits);
    it.backlog.waitingTextCount = 1;
    Object.assign(it.backlog.drain, { tokensPerMs, isMeasured: true });
    return it;
  }

  test.each([10, 100])('at %d tokens a ms it is the queue over the rate', (rate) => {
    const it = measured(rate, { tokenCountMax: 100_000 });
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

  test('those who are refused together do not come back together', () => {
    const it = measured(100, { tokenCountMax: 100_000 });
    const held = hold(it.admission, 100_000);
    const waits = Array.from({ length: 300 }, () => {
      const error = refusalOf(it.admission, { textCount: 1, tokenCount: 1000 });
      return error?.details.retryAfterMs;
    });
    expect(new Set(waits.slice(-100)).size).toBeGreaterThan(80);
    held.release();
  });

  test('a caller stands behind what it was refused before, not behind all of a stranger’s', () => {
    const it = measured(100, { tokenCountMax: 100_000 });
    const held = [1, 2].map(() => it.admission.admit({ textCount: 1, tokenCount: 50_000 }));
    const wait = (caller: string): number => {
      const demand = { textCount: 1, tokenCount: 75_000, caller };
      return refusalOf(it.admission, demand)?.details.retryAfterMs ?? 0;
    };
    const greedy = Array.from({ length: 40 }, () => wait('greedy'));
    // 3 million tokens refused, at 100 a ms: more than a queue's worth.
    expect(Math.max(...greedy)).toBeGreaterThan(20_000);
    expect(wait('stranger')).toBeLessThan(2500);
    for (const permit of held) permit.release();
  });

  test('what was refused is forgotten as time passes', async () => {
    const it = measured(100, { tokenCountMax: 100_000 });
    const held = hold(it.admission, 100_000);
    const wait = (): number => {
      const demand = { textCount: 1, tokenCount: 12_000, caller: 'a' };
      return refusalOf(it.admission, demand)?.details.retryAfterMs ?? 0;
    };
    const first = wait();
    for (let count = 0; count < 100; count++) wait();
    expect(wait()).toBeGreaterThan(20 * first);
    await it.clock.advance(60_000);
    expect(wait()).toBeLessThan(2 * first);
    held.release();
  });

  test('more than drains within the deadline is not admitted', () => {
    const it = measured(10, { tokenCountMax: 10_000_000, timeoutMs: 1000 });
    const held = hold(it.admission, 4000);
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 900 })).toBeUndefined();
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 1100 })).toMatchObject({
      code: 'EMB_QUEUE_FULL',
    });
    held.release();
  });

  test('a request that alone takes longer is admitted once few others are there', () => {
    const it = measured(10, { tokenCountMax: 10_000_000, timeoutMs: 1000 });
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

  test('who holds more than drains in time, admitted before that was known, refuses nobody else', () => {
    const it = harness({ tokenCountMax: 1_000_000, timeoutMs: 1000 });
    const held = [1, 2].map(() =>
      it.admission.admit({ textCount: 1, tokenCount: 5000, caller: 'burst' }),
    );
    it.backlog.waitingTextCount = 1;
    Object.assign(it.backlog.drain, { tokensPerMs: 10, isMeasured: true });
    expect(refusalOf(it.admission, one('burst'))?.code).toBe('EMB_QUEUE_FULL');
    expect(refusalOf(it.admission, one('person'))).toBeUndefined();
    // Not without end: another ninth is all there is for newcomers.
    const late = it.admission.admit({ textCount: 1, tokenCount: 550, caller: 'person' });
    expect(refusalOf(it.admission, { ...one('third'), tokenCount: 100 })?.code).toBe(
      'EMB_QUEUE_FULL',
    );
    for (const permit of [...held, late]) permit.release();
  });

  test('a rate that was not measured refuses nobody', () => {
    const it = measured(10, { tokenCountMax: 1_000_000, timeoutMs: 1000 });
    const held = hold(it.admission, 5000);
    it.backlog.drain.tokensPerMs = 0.01;
    expect(refusalOf(it.admission, one())?.code).toBe('EMB_QUEUE_FULL');
    it.backlog.drain.isMeasured = false;
    expect(refusalOf(it.admission, one())).toBeUndefined();
    held.release();
  });

  test('while nothing waits no rate refuses anybody, however slow the work was', () => {
    const it = measured(10, { tokenCountMax: 1_000_000, timeoutMs: 1000 });
    const permits = [1, 2].map(() => it.admission.admit({ textCount: 1, tokenCount: 2500 }));
    Object.assign(it.backlog.drain, { tokensPerMs: 0.01 });
    Object.assign(it.backlog, { latenessMs: 60_000 });
    expect(refusalOf(it.admission, one())?.code).toBe('EMB_QUEUE_FULL');
    it.backlog.waitingTextCount = 0;
    // What is not tokenized yet is about to wait.
    expect(refusalOf(it.admission, one())?.code).toBe('EMB_QUEUE_FULL');
    for (const permit of permits) permit.tokenized(2500);
    expect(refusalOf(it.admission, one())).toBeUndefined();
    for (const permit of permits) permit.release();
  });

  test('real tokens take the place of estimated ones', () => {
    const it = measured(10, { tokenCountMax: 1_000_000, timeoutMs: 1000 });
    const permits = [1, 2].map(() => it.admission.admit({ textCount: 1, tokenCount: 2500 }));
    expect(refusalOf(it.admission, one())?.code).toBe('EMB_QUEUE_FULL');
    for (const permit of permits) permit.tokenized(1000);
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 2500 })).toBeUndefined();
    for (const permit of permits) permit.release();
    const after = hold(it.admission, 5000);
    expect(refusalOf(it.admission, one())?.code).toBe('EMB_QUEUE_FULL');
    after.release();
  });

  test('a caller in a hurry is refused when texts are later than it can wait', () => {
    const it = harness();
    const held = it.admission.admit(one());
    Object.assign(it.backlog, { waitingTextCount: 1, latenessMs: 500 });
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 1000 })).toBeUndefined();
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 400 })?.code).toBe('EMB_QUEUE_FULL');
    held.release();
  });

  // Caught: it was let in, and got 504 once the work was done.
  test('who says it waits longer than the server does is not taken at its word', () => {
    const it = harness({ timeoutMs: 900 });
    const held = it.admission.admit(one());
    Object.assign(it.backlog, { waitingTextCount: 1, latenessMs: 500 });
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 10_000 })?.code).toBe('EMB_QUEUE_FULL');
    held.release();
  });
});
