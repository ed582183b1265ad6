import { beforeEach, describe, expect, test } from 'bun:test';
import {
  type BatcherHarness,
  batcherHarness,
  finishBatches,
  hasOwnRows,
  uniqueTexts as texts,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';

/**
 * The queue and its slots, one rule at a time.
 *
 * Faults that were planted in the code by hand, and that this suite caught: a slot too many; no
 * dispatch after a batch, or one behind its replies; a dispatch for each text; a linger for full
 * batches, or none; departed texts in a batch, or left in the queue; a shared batch given up;
 * batch_size forgotten, or its surplus lost; due times that make a request a block, or starve what
 * is long; what the backend lent given back before its rows were copied, or never.
 */

let clock: VirtualClock;
let backend: FakeBackend;
let harness: BatcherHarness;

beforeEach(() => {
  clock = new VirtualClock();
  backend = createFakeBackend();
  harness = batcherHarness({ backend, clock });
});

const finishAll = (): Promise<void> => finishBatches(backend, clock);

describe('when a batch leaves', () => {
  test('a lone text leaves in the turn in which it came', async () => {
    const job = harness.submit(texts(1));
    expect(backend.batches).toHaveLength(0);
    await clock.settle();
    expect(backend.batches).toHaveLength(1);
    expect(clock.now()).toBe(0);
    await finishAll();
    expect(hasOwnRows(job)).toBe(true);
  });

  test('what the backend lent is given back once the rows are copied', async () => {
    const jobs = Array.from({ length: 3 }, () => harness.submit(texts(6)));
    jobs[1].hangUp();
    await finishAll();
    expect(backend.lentCount).toBe(0);
    expect(hasOwnRows(jobs[0]) && hasOwnRows(jobs[2])).toBe(true);
  });

  test('the texts of one turn leave together', async () => {
    const jobs = Array.from({ length: 8 }, () => harness.submit(texts(1)));
    await finishAll();
    expect(backend.batches.map((batch) => batch.texts.length)).toEqual([8]);
    expect(jobs.every(hasOwnRows)).toBe(true);
  });

  test('no more batches run than there are slots; a free one is taken at once', async () => {
    backend.changeLimits({ slotCount: 2 });
    for (let job = 0; job < 5; job++) harness.submit(texts(8));
    await clock.settle();
    expect(backend.running).toHaveLength(2);
    expect(harness.batcher.batchesInFlight).toBe(2);
    expect(harness.batcher.foreground.waitingTextCount).toBe(24);
    backend.running[0].finish();
    await clock.settle();
    expect(backend.running).toHaveLength(2);
    expect(backend.batches).toHaveLength(3);
    await finishAll();
    expect(backend.runningMax).toBe(2);
    expect(harness.batcher.batchesInFlight).toBe(0);
  });

  test('the next batch leaves before anyone of the last one is told', async () => {
    const events: string[] = [];
    backend = createFakeBackend({ onBatch: () => events.push('batch') });
    harness = batcherHarness({ backend, clock });
    const onSettled = () => events.push('told');
    for (let job = 0; job < 16; job++) harness.submit(texts(1), { onSettled });
    await clock.settle();
    backend.running[0].finish();
    await clock.settle();
    expect(events).toEqual(['batch', 'batch', ...new Array(8).fill('told')]);
  });

  test('what comes while the slots are busy leaves as one batch', async () => {
    harness.submit(texts(1));
    await clock.settle();
    for (let job = 0; job < 6; job++) {
      harness.submit(texts(1));
      await clock.settle();
    }
    await finishAll();
    expect(backend.batches.map((batch) => batch.texts.length)).toEqual([1, 6]);
  });

  test('a slot more is used with the next batch', async () => {
    harness.submit(texts(40));
    await clock.settle();
    expect(backend.running).toHaveLength(1);
    backend.changeLimits({ slotCount: 3 });
    backend.running[0].finish();
    await clock.settle();
    expect(backend.running).toHaveLength(3);
    await finishAll();
  });

  test('with a linger, a batch that is not full waits, and a full one does not', async () => {
    harness = batcherHarness({ backend, clock, lingerMs: 2 });
    harness.submit(texts(1));
    await clock.advance(1);
    expect(backend.batches).toHaveLength(0);
    harness.submit(texts(1));
    await clock.advance(1);
    expect(backend.batches.map((batch) => batch.texts.length)).toEqual([2]);
    await finishAll();
    harness.submit(texts(8));
    await clock.settle();
    expect(backend.batches).toHaveLength(2);
    await finishAll();
  });
});

describe('what a batch holds', () => {
  test('texts of one padded length, padded to it; to the longest where each is alone', async () => {
    harness.submit([...texts(1, 75), ...texts(1, 73), ...texts(1, 300)]);
    await finishAll();
    const shapes = () =>
      backend.batches.map(({ texts: drawn, paddedLength }) => [drawn.length, paddedLength]);
    expect(shapes().toSorted()).toEqual([
      [1, 304],
      [2, 76],
    ]);
    backend.changeLimits({ isOneByOne: true });
    harness.submit([...texts(1, 9), ...texts(1, 13), ...texts(2, 9)]);
    await finishAll();
    expect(shapes()[2]).toEqual([2, 13]);
  });

  test('no more tokens than allowed, but for one text alone', async () => {
    harness.submit([...texts(5, 256), ...texts(1, 5000)]);
    await finishAll();
    const sizes = backend.batches.map((batch) => batch.texts.length);
    expect(sizes.toSorted()).toEqual([1, 1, 4]);
  });

  test('of a request no more texts than it allows; others fill the batch', async () => {
    const capped = harness.submit(texts(10), { batchTextsMax: 2 });
    const other = harness.submit(texts(3));
    await finishAll();
    for (const batch of backend.batches) {
      const own = batch.texts.filter((ids) => capped.texts.includes(ids));
      expect(own.length).toBeLessThanOrEqual(2);
    }
    expect(backend.batches[0].texts).toHaveLength(5);
    expect([capped, other].every(hasOwnRows)).toBe(true);
  });

  test('a capped request does not stop one behind it', async () => {
    harness.submit(texts(500), { batchTextsMax: 1 });
    const other = harness.submit(texts(4));
    await finishAll();
    expect(hasOwnRows(other)).toBe(true);
  });
});
