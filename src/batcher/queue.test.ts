import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { headSet } from '../vectors/output.ts';
import { PASSES_MAX } from './plan.ts';
import { BatchQueue, type Due, LengthBucket, type QueuedText } from './queue.ts';

/**
 * A heap held against a sorted array: what comes out, in which order, and what is left. And how
 * long the most urgent text may be passed over. Faults that were planted: a count that is never
 * kept; what takes the place of a removed item neither raised nor lowered.
 */

const DENSE = headSet(['dense']);

/** The plain model of a bucket. */
class SortedArray {
  #items: Due[] = [];

  push(item: Due): void {
    this.#items.push(item);
    this.#items.sort((a, b) => a.dueMs - b.dueMs || a.sequence - b.sequence);
  }

  pop(): Due | undefined {
    return this.#items.shift();
  }

  at(index: number): Due | undefined {
    return this.#items[index];
  }

  remove(item: Due): boolean {
    const isThere = this.#items.includes(item);
    this.#items = this.#items.filter((other) => other !== item);
    return isThere;
  }

  retain(isKept: (item: Due) => boolean): void {
    this.#items = this.#items.filter(isKept);
  }

  get length(): number {
    return this.#items.length;
  }

  get dueMs(): number {
    return this.#items[0]?.dueMs ?? Number.POSITIVE_INFINITY;
  }
}

test('an empty bucket has nothing, and is never due', () => {
  const bucket = new LengthBucket<Due>(16, DENSE);
  expect(bucket.pop()).toBeUndefined();
  expect([bucket.textCount, bucket.dueMs]).toEqual([0, Number.POSITIVE_INFINITY]);
});

test('the most urgent text is passed over so many times and no more', () => {
  const queue = new BatchQueue<QueuedText>();
  const lengths = { batchTextsMax: 8, batchTokensMax: 512, multiVectorTokensMax: 512 };
  const limits = { ...lengths, launchTokens: 100, slotCount: 1, isOneByOne: false };
  let sequence = 0;
  const push = (paddedLength: number, count: number, dueMs: number): void => {
    for (; count > 0; count--) {
      const request = { isSettled: false, batchTextsMax: 8, waitingCount: 0 };
      const order = { dueMs, sequence: sequence++, isAlone: false };
      queue.push({ paddedLength, heads: DENSE, request, ...order });
    }
  };
  push(12, 5, 1);
  push(60, 8, 9);
  let passCount = 0;
  for (;;) {
    // Full batches of one length keep coming in.
    push(8, 20, 9);
    if (queue.draw(limits, 0).some(({ dueMs }) => dueMs === 1)) break;
    passCount++;
    expect(passCount).toBeLessThanOrEqual(PASSES_MAX);
  }
  expect(passCount).toBe(PASSES_MAX);
});

test('texts that are due together leave in the order in which they came', () => {
  const bucket = new LengthBucket<Due>(16, DENSE);
  for (let sequence = 0; sequence < 50; sequence++) bucket.push({ dueMs: 7, sequence });
  const out = Array.from({ length: 50 }, () => bucket.pop()?.sequence);
  expect(out).toEqual(Array.from({ length: 50 }, (_, index) => index));
});

describe('against a sorted array', () => {
  for (let seed = 1; seed <= 50; seed++) {
    test(`seed ${seed}`, () => {
      const random = seededRandom(seed);
      const bucket = new LengthBucket<Due>(16, DENSE);
      const model = new SortedArray();
      for (let sequence = 0; sequence < 400; sequence++) {
        const choice = random.below(20);
        if (choice < 11) {
          const item = { dueMs: random.below(30), sequence };
          bucket.push(item);
          model.push(item);
        } else if (choice < 16) {
          expect(bucket.pop()).toEqual(model.pop() as Due);
        } else if (choice < 19) {
          const item = model.at(random.below(model.length + 1)) ?? { dueMs: 1, sequence };
          expect(bucket.remove(item)).toBe(model.remove(item));
        } else {
          const isKept = (item: Due): boolean => item.sequence % 3 !== seed % 3;
          bucket.retain(isKept);
          model.retain(isKept);
        }
        expect([bucket.textCount, bucket.dueMs]).toEqual([model.length, model.dueMs]);
      }
      while (model.length > 0) expect(bucket.pop()).toEqual(model.pop() as Due);
      expect(bucket.textCount).toBe(0);
    });
  }
});
