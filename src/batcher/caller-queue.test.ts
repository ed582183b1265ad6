import { beforeEach, describe, expect, test } from 'bun:test';
import {
  type BatcherHarness,
  batcherHarness,
  finishBatches,
  hasOwnRows,
  type TrackedJob,
  uniqueTexts as texts,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend, type FakeBatch } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';

/**
 * Several callers before one backend.
 *
 * Faults that were planted by hand, and that this suite caught: bulk texts before those of who
 * asks; a caller who is alone taken for bulk; what waited before the second caller came not sorted
 * anew; batches filled up; bulk texts that never get their turn; more spare slots than there are,
 * or one for callers who all ask; departed texts counted for ever.
 */

let clock: VirtualClock;
let backend: FakeBackend;
let harness: BatcherHarness;

beforeEach(() => {
  clock = new VirtualClock();
  backend = createFakeBackend({ limits: { batchTokensMax: 1024, launchTokens: 40 } });
  harness = batcherHarness({ backend, clock });
});

/** Ends the oldest batch and gives back the one that is sent then. */
async function next(): Promise<FakeBatch | undefined> {
  backend.running[0]?.finish();
  await clock.settle();
  return backend.running.at(-1);
}

const sizes = (): number[] => backend.batches.map((batch) => batch.texts.length);

const inBatch = (job: TrackedJob, batch: FakeBatch | undefined): boolean =>
  batch?.texts.includes(job.texts[0]) ?? false;

async function burst(requestCount: number, perRequest: number): Promise<void> {
  for (let count = 0; count < requestCount; count++) {
    harness.submit(texts(perRequest), { caller: 'burst' });
  }
  await clock.settle();
}

describe('a query of another caller', () => {
  test('goes before a burst of small requests, though all of them came first', async () => {
    await burst(100, 1);
    await clock.advance(1000);
    const query = harness.submit(texts(1), { caller: 'person' });
    expect(inBatch(query, await next())).toBe(true);
  });

  test('and so it does when its own caller was there before the burst', async () => {
    const first = harness.submit(texts(1), { caller: 'person' });
    await burst(100, 1);
    await clock.advance(1000);
    const query = harness.submit(texts(1), { caller: 'person' });
    expect(inBatch(first, backend.batches[0])).toBe(true);
    expect(inBatch(query, await next())).toBe(true);
  });

  test('takes bulk texts along while they add a quarter to its cost', async () => {
    await burst(100, 1);
    harness.submit(texts(1), { caller: 'person' });
    await next();
    // A launch of 40 tokens and 5 of its own: two texts of 5 are the quarter.
    expect(sizes()).toEqual([8, 3]);
  });

  test('a caller of more than half a batch is no longer one who asks', async () => {
    await burst(4, 4);
    const large = harness.submit(texts(5, 20), { caller: 'other' });
    await clock.advance(1000);
    const query = harness.submit(texts(1), { caller: 'person' });
    const batch = await next();
    expect([inBatch(query, batch), inBatch(large, batch)]).toEqual([true, false]);
    await finishBatches(backend, clock);
    expect(hasOwnRows(large)).toBe(true);
  });
});

test('a caller who is alone has full batches, and the order of its requests', async () => {
  await burst(20, 1);
  const query = harness.submit(texts(1), { caller: 'burst' });
  await next();
  expect(sizes()).toEqual([8, 8]);
  expect(inBatch(query, backend.batches[1])).toBe(false);
  await finishBatches(backend, clock);
  expect(sizes()).toEqual([8, 8, 5]);
});

test('ten seconds after the other caller a burst has batches as large as any', async () => {
  backend.changeLimits({ launchTokens: 5 });
  harness.submit(texts(1), { caller: 'person' });
  await burst(6, 8);
  // Five launches' worth of texts, beside its own launch.
  await next();
  expect(sizes()).toEqual([1, 5]);
  await clock.advance(10_001);
  await burst(1, 1);
  await next();
  expect(sizes()).toEqual([1, 5, 8]);
});

test('bulk texts have their turn although others fill the backend', async () => {
  const bulk = harness.submit(texts(16), { caller: 'burst' });
  for (let caller = 0; caller < 400; caller++) {
    harness.submit(texts(1), { caller: `person ${caller}` });
  }
  await clock.settle();
  let askedMs = 0;
  while (bulk.settleCount === 0 && backend.running.length > 0) {
    await clock.advance(50);
    askedMs += 50;
    await next();
  }
  expect(bulk.settleCount).toBe(1);
  // A second of those who ask, then in turns.
  expect(askedMs).toBeLessThan(1600);
  expect(harness.batcher.foreground.waitingTextCount).toBeGreaterThan(100);
});

test('who hangs up is forgotten: the next request of that caller asks again', async () => {
  await burst(40, 1);
  const gone = harness.submit(texts(30), { caller: 'person' });
  await clock.advance(1000);
  gone.hangUp();
  const query = harness.submit(texts(1), { caller: 'person' });
  expect(inBatch(query, await next())).toBe(true);
});

test('who hangs up is forgotten as well when it was alone for a while', async () => {
  harness.submit(texts(1), { caller: 'person' });
  const large = harness.submit(texts(30), { caller: 'burst' });
  await clock.advance(10_001);
  await burst(1, 1);
  await next();
  await next();
  harness.submit(texts(1), { caller: 'person' });
  await clock.settle();
  large.hangUp();
  await burst(24, 1);
  await clock.advance(1000);
  const query = harness.submit(texts(1), { caller: 'person' });
  for (let batch = await next(); !inBatch(query, batch); batch = await next()) {
    expect(batch?.texts.length).toBeLessThan(8);
  }
});

describe('a spare slot', () => {
  beforeEach(() => {
    const limits = { isOneByOne: true, slotCount: 2, endpointCount: 2, spareSlotCount: 1 };
    backend.changeLimits(limits);
  });

  test('is for a caller who asks while bulk texts have the others', async () => {
    harness.submit(texts(1), { caller: 'person' });
    await clock.settle();
    await next();
    await burst(8, 8);
    expect(backend.running.length).toBe(2);
    const query = harness.submit(texts(1), { caller: 'person' });
    await clock.settle();
    expect(backend.running.length).toBe(3);
    expect(inBatch(query, backend.running[2])).toBe(true);
    // One, however many ask.
    harness.submit(texts(1), { caller: 'other' });
    await clock.settle();
    expect(backend.running.length).toBe(3);
  });

  test('is for a query while background texts have the others', async () => {
    for (let count = 0; count < 4; count++) harness.submit(texts(4), { isBackground: true });
    await clock.settle();
    expect(backend.running.length).toBe(2);
    harness.submit(texts(1));
    await clock.settle();
    expect(backend.running.length).toBe(3);
  });

  test('is not for callers who all ask', async () => {
    for (let caller = 0; caller < 9; caller++) {
      harness.submit(texts(1), { caller: `person ${caller}` });
    }
    await clock.settle();
    expect(backend.running.length).toBe(2);
  });
});
