import { describe, expect, test } from 'bun:test';
import { admissionHarness as harness, one, refusalOf } from '../testing/admission-harness.ts';
import type { Admission, Permit } from './admission.ts';

/**
 * Faults that were planted in the code by hand, and that this suite caught: a permit that is not
 * given back, or only its texts; a share that is never asked for; a holding that outlives its
 * permits.
 */

describe('limits', () => {
  test('texts and tokens are bounded, and a permit gives both back', () => {
    const { admission } = harness();
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
    const { admission } = harness();
    const demand = { textCount: 1000, tokenCount: 1_000_000, caller: 'a' };
    expect(refusalOf(admission, demand)).toBeUndefined();
  });

  test('what will be cut off takes its place too, until it is answered', () => {
    const { admission } = harness();
    const book = { textCount: 1, tokenCount: 5000, workTokenCount: 8 };
    const permits = [admission.admit(book), admission.admit(book)];
    expect(refusalOf(admission, book)).toMatchObject({
      code: 'EMB_QUEUE_FULL',
      details: { limit: 10_000 },
    });
    for (const permit of permits) permit.release();
    expect(admission.admittedTokenCount).toBe(0);
  });

  test('a request over the whole limit is admitted while others are there, and leaves room', () => {
    const { admission } = harness();
    const held = admission.admit(one('a'));
    const large = admission.admit({ textCount: 1, tokenCount: 1_000_000, caller: 'b' });
    expect(refusalOf(admission, { textCount: 1, tokenCount: 2000, caller: 'c' })).toBeUndefined();
    large.release();
    held.release();
    expect(admission.admittedTokenCount).toBe(0);
    expect(admission.callerCount).toBe(0);
  });

  test('close waits for the last permit, and admits nothing more', async () => {
    const { admission } = harness();
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

  test('alone a caller gets all of the queue, and the next one still finds room', () => {
    const { admission } = harness();
    expect(fill(admission, 'greedy')).toHaveLength(100);
    expect(refusalOf(admission, one('greedy'))?.message).toContain('101 texts would wait');
    expect(fill(admission, 'other')).toHaveLength(11);
    const refusal = refusalOf(admission, one('other'));
    expect(refusal?.message).toContain('12 texts of yours would wait, the limit is 11');
  });

  test('callers who take what they can come to equal shares as the queue drains', () => {
    const { admission } = harness({ textCountMax: 1000, tokenCountMax: 1_000_000 });
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
    const { admission } = harness();
    const permits = Array.from({ length: 100 }, () => admission.admit(one()));
    expect(permits).toHaveLength(100);
  });
});
