import { describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { type Admission, createAdmission, type Demand, type Permit } from './admission.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a permit that is not
 * given back, or only its texts; a share that is never asked for; a holding that outlives its
 * permits; a drain rate that counts idle time, or what departed callers leave behind; a Retry-After
 * that is the same for all.
 */

function stand(
  options: { textCountMax?: number; tokenCountMax?: number; timeoutMs?: number } = {},
) {
  const clock = new VirtualClock();
  const backlog = { waitingTextCount: 0, latenessMs: 0 };
  const limits = { textCountMax: 100, tokenCountMax: 10_000, ...options };
  return { clock, backlog, admission: createAdmission({ clock, backlog, ...limits }) };
}

function refusalOf(admission: Admission, demand: Demand): ServerError | undefined {
  try {
    admission.admit(demand).release();
    return undefined;
  } catch (error) {
    if (error instanceof ServerError) return error;
    throw error;
  }
}

const LIMIT = { limit: 10_000 };

const one = (caller?: string): Demand => ({ textCount: 1, tokenCount: 10, caller });

/** Takes so many tokens of the queue, by two requests: one alone is never counted as all of it. */
function hold(admission: Admission, tokenCount: number): Permit {
  const halves = [1, 2].map(() => admission.admit({ textCount: 1, tokenCount: tokenCount / 2 }));
  return {
    release() {
      for (const permit of halves) permit.release();
    },
  };
}

describe('limits', () => {
  test('texts and tokens are bounded, and a permit gives both back', () => {
    const { admission } = stand();
    const permits = Array.from({ length: 100 }, () => admission.admit(one()));
    expect(refusalOf(admission, one())).toMatchObject({ code: 'EMB_QUEUE_FULL' });
    for (const permit of permits.splice(-2)) permit.release();
    permits.push(admission.admit({ textCount: 1, tokenCount: 5_000 }));
    expect(refusalOf(admission, { textCount: 1, tokenCount: 4_021 })?.code).toBe('EMB_QUEUE_FULL');
    expect(refusalOf(admission, { textCount: 1, tokenCount: 4_020 })).toBeUndefined();
    for (const permit of permits) permit.release();
    expect(admission.admittedTextCount).toBe(0);
    expect(admission.admittedTokenCount).toBe(0);
  });

  test('a free queue admits any request', () => {
    const { admission } = stand();
    const demand = { textCount: 1000, tokenCount: 1_000_000, caller: 'a' };
    expect(refusalOf(admission, demand)).toBeUndefined();
  });

  test('what will be cut off takes its place too, until it is answered', () => {
    const { admission } = stand();
    const book = { textCount: 1, tokenCount: 5000, workTokenCount: 8 };
    const permits = [admission.admit(book), admission.admit(book)];
    expect(refusalOf(admission, book)).toMatchObject({ code: 'EMB_QUEUE_FULL', details: LIMIT });
    for (const permit of permits) permit.release();
    expect(admission.admittedTokenCount).toBe(0);
  });

  test('a request over the whole limit is admitted while others are there, and leaves room', () => {
    const { admission } = stand();
    const held = admission.admit(one('a'));
    const large = admission.admit({ textCount: 1, tokenCount: 1_000_000, caller: 'b' });
    expect(refusalOf(admission, { textCount: 1, tokenCount: 2000, caller: 'c' })).toBeUndefined();
    large.release();
    held.release();
    expect(admission.admittedTokenCount).toBe(0);
    expect(admission.callerCount).toBe(0);
  });

  test('close waits for the last permit, and admits nothing more', async () => {
    const { admission } = stand();
    const permit = admission.admit(one());
    let isClosed = false;
    const closed = admission.close().then(() => {
      isClosed = true;
    });
    expect(refusalOf(admission, one())).toMatchObject({ code: 'EMB_SHUTTING_DOWN' });
    expect(isClosed).toBe(false);
    permit.release();
    await closed;
  });
});

describe('shares', () => {
  const fill = (admission: Admission, caller: string): Permit[] => {
    const permits: Permit[] = [];
    for (;;) {
      try {
        permits.push(admission.admit(one(caller)));
      } catch {
        return permits;
      }
    }
  };

  test('alone a caller gets nearly all of the queue, and the next one still finds room', () => {
    const { admission } = stand();
    const greedy = fill(admission, 'greedy').length;
    expect(greedy).toBeGreaterThanOrEqual(85);
    expect(greedy).toBeLessThan(95);
    expect(fill(admission, 'other').length).toBeGreaterThan(0);
  });

  test('callers who take what they can come to equal shares as the queue drains', () => {
    const { admission } = stand({ textCountMax: 1000, tokenCountMax: 1_000_000 });
    const callers = ['a', 'b', 'c', 'd'];
    const held = new Map(callers.map((caller) => [caller, [] as Permit[]]));
    held.get('a')?.push(...fill(admission, 'a'));
    for (let round = 0; round < 200; round++) {
      for (const permits of held.values()) {
        for (const permit of permits.splice(0, Math.ceil(permits.length / 20))) permit.release();
      }
      for (let isFull = false; !isFull; ) {
        isFull = true;
        for (const [caller, permits] of held) {
          if (refusalOf(admission, one(caller)) !== undefined) continue;
          permits.push(admission.admit(one(caller)));
          isFull = false;
        }
      }
    }
    const counts = [...held.values()].map((permits) => permits.length);
    expect(Math.max(...counts) / Math.min(...counts)).toBeLessThan(1.3);
    for (const permits of held.values()) for (const permit of permits) permit.release();
    expect(admission.callerCount).toBe(0);
  });

  test('without a name there are no shares', () => {
    const { admission } = stand();
    const permits = Array.from({ length: 100 }, () => admission.admit(one()));
    expect(permits).toHaveLength(100);
  });
});

describe('when to come back', () => {
  /** So many tokens a ms leave while others wait. */
  async function drain(it: ReturnType<typeof stand>, tokensPerMs: number): Promise<void> {
    it.backlog.waitingTextCount = 1;
    for (let step = 0; step < 60; step++) {
      const permit = it.admission.admit({ textCount: 1, tokenCount: 50 * tokensPerMs });
      await it.clock.advance(50);
      permit.release();
    }
  }

  test.each([10, 100])('at %d tokens a ms it is the queue over the rate', async (rate) => {
    const it = stand({ tokenCountMax: 100_000 });
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
    const it = stand({ tokenCountMax: 100_000 });
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
    const it = stand({ tokenCountMax: 1_000_000 });
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
    const it = stand({ tokenCountMax: 10_000_000, timeoutMs: 1000 });
    await drain(it, 10);
    const held = hold(it.admission, 4000);
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 900 })).toBeUndefined();
    expect(refusalOf(it.admission, { textCount: 1, tokenCount: 1100 })).toMatchObject({
      code: 'EMB_QUEUE_FULL',
    });
    held.release();
  });

  test('a request that alone takes longer is admitted once few others are there', async () => {
    const it = stand({ tokenCountMax: 10_000_000, timeoutMs: 1000 });
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
    const it = stand({ tokenCountMax: 1_000_000 });
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
    const it = stand();
    const held = it.admission.admit(one());
    Object.assign(it.backlog, { waitingTextCount: 1, latenessMs: 500 });
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 1000 })).toBeUndefined();
    expect(refusalOf(it.admission, { ...one(), timeoutMs: 400 })?.code).toBe('EMB_QUEUE_FULL');
    held.release();
  });
});
