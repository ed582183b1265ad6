import { beforeEach, describe, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import {
  type BatcherHarness,
  batcherHarness,
  finishBatches,
  hasOwnRows,
  uniqueTexts as texts,
  uniqueText,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';

/**
 * Callers that leave before their texts do, batches that fail, and the end of the whole.
 *
 * Caught before it was mended: a text that waited when the backend went away still had heirs. One
 * was computed for a request that had been told its error, so that the request ended too early.
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

describe('callers that leave', () => {
  test('texts that wait are dropped, and cost no batch', async () => {
    const first = harness.submit(texts(8));
    await clock.settle();
    const gone = harness.submit(texts(20));
    const stays = harness.submit(texts(1));
    await clock.settle();
    gone.hangUp();
    await clock.settle();
    expect(gone.error?.code).toBe('EMB_REQUEST_ABORTED');
    await finishAll();
    expect(backend.batches.map((batch) => batch.texts.length)).toEqual([8, 1]);
    expect(harness.batcher.foreground.waitingTextCount).toBe(0);
    expect([first, stays].every(hasOwnRows)).toBe(true);
  });

  test('many texts that nobody waits for do not fill the queue until their turn comes', async () => {
    harness.submit(texts(8));
    await clock.settle();
    const gone = harness.submit(texts(5000));
    await clock.settle();
    gone.hangUp();
    expect(harness.batcher.foreground.waitingTextCount).toBeLessThan(100);
    await finishAll();
    expect(backend.batches).toHaveLength(1);
  });

  test('a batch that nobody waits for any more is told so; a shared one runs on', async () => {
    const alone = harness.submit(texts(8));
    await clock.settle();
    alone.hangUp();
    expect(backend.running[0].signal?.aborted).toBe(true);
    await finishAll();
    const gone = harness.submit(texts(2));
    const stays = harness.submit(texts(2));
    await clock.settle();
    gone.hangUp();
    expect(backend.running[0].signal?.aborted).toBe(false);
    await finishAll();
    expect(hasOwnRows(stays)).toBe(true);
    expect(gone.settleCount).toBe(1);
  });

  test('past its deadline a request is told, whatever its batch does', async () => {
    const job = harness.submit(texts(1), { timeoutMs: 50 });
    await clock.advance(49);
    expect(job.settleCount).toBe(0);
    await clock.advance(1);
    expect(job.error?.code).toBe('EMB_DEADLINE_EXCEEDED');
    await finishAll();
    expect(job.settleCount).toBe(1);
  });

  test('one that has left before it came costs nothing', async () => {
    const job = harness.submit(texts(1), { timeoutMs: 10 });
    job.hangUp();
    await finishAll();
    expect(job.settleCount).toBe(1);
    expect(backend.batches).toHaveLength(0);
    expect(clock.plannedCount).toBe(0);
  });
});

describe('an end', () => {
  test('a batch that fails for good tells each of its callers', async () => {
    const jobs = [harness.submit(texts(2)), harness.submit(texts(1))];
    await clock.settle();
    const gone = new ServerError('EMB_BACKEND_UNAVAILABLE', 'gone');
    backend.running[0].fail(gone);
    await clock.settle();
    backend.running[0].fail(gone);
    await finishAll();
    for (const { outcomes } of jobs) {
      for (const outcome of outcomes ?? []) {
        expect(outcome).toMatchObject({ code: 'EMB_BACKEND_UNAVAILABLE' });
      }
    }
    expect(jobs.map(({ outcomes }) => outcomes?.length)).toEqual([2, 1]);
    const next = harness.submit(texts(1));
    await finishAll();
    expect(hasOwnRows(next)).toBe(true);
  });

  test('closed, what waits is told, what runs is finished, and nothing comes in', async () => {
    const running = harness.submit(texts(8));
    await clock.settle();
    const waiting = harness.submit(texts(3));
    await clock.settle();
    harness.batcher.close();
    const late = harness.submit(texts(1));
    await clock.settle();
    for (const outcome of waiting.outcomes ?? []) {
      expect(outcome).toMatchObject({ code: 'EMB_SHUTTING_DOWN' });
    }
    expect(waiting.settleCount).toBe(1);
    expect(late.error?.code).toBe('EMB_SHUTTING_DOWN');
    expect(running.settleCount).toBe(0);
    await finishAll();
    expect(hasOwnRows(running)).toBe(true);
    expect(backend.batches).toHaveLength(1);
    expect(harness.batcher.foreground.waitingTextCount).toBe(0);
  });

  test.each(['is lost', 'is shut down'])(
    'when all %s, nobody inherits a text that was told so',
    async (how) => {
      backend.changeLimits({ slotCount: 2 });
      const text = uniqueText(5);
      // Each has a batch that runs, so that both requests outlive the text that waits.
      const leaver = harness.submit([...texts(8), text]);
      const stays = harness.submit([...texts(8), text.slice()]);
      await clock.settle();
      expect(harness.batcher.coalescing.joinedCount).toBe(1);
      const state = { isReady: how !== 'is lost', reason: how === 'is lost' ? 'gone' : '' };
      Object.assign(backend, { state: () => state });
      if (how === 'is shut down') harness.batcher.close();
      else harness.submit([uniqueText(5)]);
      await clock.settle();
      leaver.hangUp();
      Object.assign(backend, { state: () => ({ isReady: true, reason: '' }) });
      backend.running[0].finish();
      await clock.settle();
      // Were the text computed for it now, its request would end before its own batch does.
      backend.running.at(-1)?.finish();
      await finishAll();
      expect(stays.settleCount).toBe(1);
      expect(stays.outcomes?.map((outcome) => outcome instanceof ServerError)).toEqual(
        Array.from({ length: 9 }, (_, index) => index === 8),
      );
      expect(backend.batches.map((batch) => batch.texts.length)).toEqual([8, 8]);
    },
  );
});
