import { beforeEach, describe, expect, test } from 'bun:test';
import {
  type BatcherHarness,
  batcherHarness,
  finishBatches,
  hasOwnRows,
  type TrackedJob,
  uniqueTexts as texts,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { headSet } from '../vectors/output.ts';
import { reportOf } from './pending-request.ts';
import { BatchQueue, type QueuedText } from './queue.ts';

/**
 * Batches for a backend that computes each text by itself.
 *
 * Faults that were planted by hand, and that this suite caught: all that waits in one batch, or
 * one text in each; the batches in flight left out of the share; tokens unbounded; buckets emptied
 * one after the other; departed texts sent; a text of other heads, or one that must be alone, in
 * company.
 */

let clock: VirtualClock;
let backend: FakeBackend;
let harness: BatcherHarness;

beforeEach(() => {
  clock = new VirtualClock();
  backend = createFakeBackend({ limits: { isOneByOne: true, batchTokensMax: 320 } });
  harness = batcherHarness({ backend, clock });
});

const sizes = (): number[] => backend.batches.map((batch) => batch.texts.length);

describe('how many texts ride in a batch', () => {
  test('as many as leave the next batch waiting', async () => {
    backend.changeLimits({ slotCount: 3 });
    for (let count = 0; count < 16; count++) harness.submit(texts(1));
    await clock.settle();
    expect(sizes()).toEqual([4, 4, 4]);
    // Eight run, four wait.
    backend.running[0].finish();
    await clock.settle();
    expect(sizes()).toEqual([4, 4, 4, 3]);
  });

  test('one, where there is no more than a text for each slot', async () => {
    backend.changeLimits({ slotCount: 4 });
    for (let count = 0; count < 4; count++) harness.submit(texts(1));
    await clock.settle();
    expect(sizes()).toEqual([1, 1, 1, 1]);
  });

  test('no more texts and no more tokens than allowed', async () => {
    harness.submit(texts(20, 100));
    harness.submit(texts(20, 8));
    await finishBatches(backend, clock);
    for (const { texts: drawn } of backend.batches) {
      const tokenCount = drawn.reduce((sum, ids) => sum + ids.length, 0);
      expect(drawn.length === 1 || tokenCount <= 320).toBe(true);
      expect(drawn.length).toBeLessThanOrEqual(8);
    }
    expect(Math.max(...sizes())).toBe(8);
  });

  test('a text over the bound alone', async () => {
    const jobs = [harness.submit(texts(1, 500)), harness.submit(texts(6, 9))];
    await finishBatches(backend, clock);
    expect(jobs.every(hasOwnRows)).toBe(true);
    for (const { texts: drawn } of backend.batches) {
      expect(drawn.length === 1 || drawn.every((ids) => ids.length < 500)).toBe(true);
    }
  });
});

test('the most urgent leave first, whatever their lengths', async () => {
  harness.submit(texts(1));
  await clock.settle();
  const jobs: TrackedJob[] = [];
  // Each is due before the next comes.
  for (const length of [30, 9, 60, 17, 30, 9]) {
    jobs.push(harness.submit(texts(1, length)));
    await clock.advance(50);
  }
  await finishBatches(backend, clock);
  const sent = backend.batches.slice(1).flatMap((batch) => batch.texts);
  expect(sent).toEqual(jobs.flatMap((job) => job.texts));
  expect(sizes()).toEqual([1, 3, 1, 1, 1]);
});

test('padding that nobody computes is not counted', () => {
  const shape = { paddedLength: 16, arrivedMs: 0, sentMs: 0 };
  const given = [...texts(1, 9), ...texts(1, 13)].map((ids) => ({ ids, ...shape }));
  const run = { inferMs: 1, error: undefined, rescueCallCount: 0 };
  expect(reportOf(given, { ...run, isOneByOne: true }).computedTokenCount).toBe(22);
  expect(reportOf(given, { ...run, isOneByOne: false }).computedTokenCount).toBe(32);
});

describe('what never shares a batch', () => {
  const limits = {
    ...{ batchTextsMax: 8, batchTokensMax: 320, multiVectorTokensMax: 320 },
    ...{ launchTokens: 0, isOneByOne: true, slotCount: 1 },
  };
  const request = () => ({ isSettled: false, batchTextsMax: 8, waitingCount: 0 });
  const dense = headSet(['dense']);
  /** So many that the share of a slot is no bound. */
  const RUNNING = 100;
  let sequence = 0;
  const text = (change: Partial<QueuedText> = {}): QueuedText => {
    const order = { dueMs: sequence, sequence: sequence++ };
    return {
      request: request(),
      paddedLength: 8,
      heads: dense,
      isAlone: false,
      ...order,
      ...change,
    };
  };

  function drawAll(given: readonly QueuedText[]): QueuedText[][] {
    const waiting = new BatchQueue<QueuedText>();
    for (const each of given) waiting.push(each);
    const batches: QueuedText[][] = [];
    while (waiting.textCount > 0) batches.push(waiting.draw(limits, RUNNING));
    return batches;
  }

  test('a text that must be alone', () => {
    const [first, second, third, fourth] = [text(), text({ isAlone: true }), text(), text()];
    expect(drawAll([first, second, third, fourth])).toEqual([[first], [second], [third, fourth]]);
  });

  test('texts of other heads', () => {
    const [first, second, third] = [text(), text({ heads: headSet(['sparse']) }), text()];
    expect(drawAll([first, second, third])).toEqual([[first, third], [second]]);
  });

  test('texts that nobody waits for', () => {
    const gone = text({ request: { ...request(), isSettled: true } });
    const [first, last] = [text(), text()];
    expect(drawAll([first, gone, last])).toEqual([[first, last]]);
  });
});
