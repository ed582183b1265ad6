import { beforeEach, describe, expect, test } from 'bun:test';
import { BackendFault } from '../backend/contract.ts';
import { ServerError } from '../base/errors.ts';
import {
  type BatcherHarness,
  batcherHarness,
  finishBatches,
  hasOwnRows,
  type TrackedJob,
  uniqueTexts as texts,
  textsOfOneKey,
  uniqueText,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { headSet } from '../vectors/output.ts';
import { RowCache } from './row-cache.ts';

/**
 * Request coalescing: equal texts that wait or run are computed once.
 *
 * Faults that were planted in the code by hand, and that this suite caught: heads, ids or the model
 * not compared; a bypass that joins, or is joined; a text that dies with the request that brought
 * it, waiting or running; a batch that runs on for nobody; one that went along told twice, or
 * never; a deadline of the first for all; a query that waits as background, or behind the other
 * texts of a large request; a failed batch that is still joined; texts left in the index when their
 * request ends; the row of another model kept.
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
const sentCount = (): number => backend.batches.reduce((sum, { texts }) => sum + texts.length, 0);
const again = (ids: Int32Array): Int32Array => ids.slice();

/** Fills the backend, so that what comes next waits. */
async function occupy(): Promise<TrackedJob> {
  const job = harness.submit(texts(8));
  await clock.settle();
  return job;
}

describe('equal texts', () => {
  test('of one turn, waiting, running or in one request are computed once', async () => {
    const text = uniqueText(5);
    const jobs = [harness.submit([text]), harness.submit([again(text), again(text)])];
    await clock.settle();
    jobs.push(harness.submit([...texts(2), again(text)]));
    await finishAll();
    expect(jobs.every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(3);
    expect(harness.batcher.coalescing.joinedCount).toBe(3);
    expect(jobs.map(({ result }) => result?.coalescedTextCount)).toEqual([0, 2, 1]);
    expect(jobs.map(({ plannedTokenCount }) => plannedTokenCount)).toEqual([5, 0, 10]);
    expect(harness.batcher.foreground.waitingTextCount).toBe(0);
    // What is over is not joined.
    jobs.push(harness.submit([again(text)]));
    await finishAll();
    expect(sentCount()).toBe(4);
  });

  test('tell how long each of them waited', async () => {
    const text = uniqueText(5);
    const first = harness.submit([text]);
    await clock.advance(20);
    const late = harness.submit([again(text)]);
    await clock.advance(5);
    await finishAll();
    expect([first.result?.queueMs, first.result?.inferMs]).toEqual([0, 25]);
    expect([late.result?.queueMs, late.result?.inferMs]).toEqual([0, 5]);
    const gone = harness.submit([text]);
    await clock.advance(20);
    const heir = harness.submit([again(text)]);
    gone.hangUp();
    await clock.advance(5);
    await finishAll();
    expect([heir.result?.queueMs, heir.result?.inferMs]).toEqual([0, 5]);
  });

  test('of other heads, past a bypass or of another model are computed apart', async () => {
    const text = uniqueText(5);
    const send = (options: object = {}) => harness.submit([again(text)], options);
    send();
    send({ heads: headSet(['dense', 'sparse']) });
    send({ bypassesCache: true });
    send({ bypassesCache: true });
    await clock.settle();
    expect(harness.batcher.coalescing.joinedCount).toBe(0);
    Object.assign(backend, { modelStarts: 1 });
    const ofNext = send();
    expect(harness.batcher.coalescing.joinedCount).toBe(0);
    send();
    expect(harness.batcher.coalescing.joinedCount).toBe(1);
    await finishAll();
    expect(hasOwnRows(ofNext)).toBe(true);
    expect(sentCount()).toBe(5);
  });

  test('that share a key only are computed apart', async () => {
    const [first, second] = textsOfOneKey();
    const jobs = [first, second, first].map((ids) => harness.submit([again(ids)]));
    await finishAll();
    expect(jobs.every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(2);
  });
});

describe('a caller that leaves', () => {
  test.each(['waits', 'runs'])('hands on its text that %s, to the last', async (what) => {
    if (what === 'waits') await occupy();
    const text = uniqueText(5);
    const leavers = [harness.submit([text])];
    for (let joiner = 0; joiner < 3; joiner++) leavers.push(harness.submit([again(text)]));
    const stays = harness.submit([...texts(2), again(text)]);
    await clock.settle();
    for (const [at, leaver] of leavers.entries()) {
      leaver.hangUp();
      await clock.settle();
      expect(leavers.map(({ settleCount }) => settleCount)).toEqual(
        leavers.map((_, index) => (index <= at ? 1 : 0)),
      );
    }
    expect(backend.running.every(({ signal }) => signal?.aborted === false)).toBe(true);
    const joiner = harness.submit([again(text)]);
    await finishAll();
    expect([stays, joiner].every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(what === 'waits' ? 11 : 3);
    for (const leaver of leavers) expect(leaver.error?.code).toBe('EMB_REQUEST_ABORTED');
    for (const job of [...leavers, stays, joiner]) expect(job.settleCount).toBe(1);
    expect(harness.batcher.foreground.waitingTextCount).toBe(0);
  });

  test('hands on what runs to a request that waits for more', async () => {
    const text = uniqueText(5);
    const gone = harness.submit([text]);
    await clock.settle();
    const heir = harness.submit([again(text), ...texts(1)]);
    const other = harness.submit([again(text)]);
    gone.hangUp();
    backend.running[0].finish();
    await clock.settle();
    expect([heir, other].map(({ settleCount }) => settleCount)).toEqual([0, 1]);
    await finishAll();
    expect([heir, other].every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(2);
  });

  test('ends the work when nobody is left, and nobody joins it then', async () => {
    const text = uniqueText(5);
    const jobs = [harness.submit([text, again(text)]), harness.submit([again(text)])];
    await clock.settle();
    for (const job of jobs) {
      expect(backend.running[0].signal?.aborted).toBe(false);
      job.hangUp();
    }
    expect(backend.running[0].signal?.aborted).toBe(true);
    const late = harness.submit([again(text)]);
    await finishAll();
    expect(hasOwnRows(late)).toBe(true);
    expect(sentCount()).toBe(2);
  });

  test('from the queue leaves nothing that could be joined', async () => {
    await occupy();
    const text = uniqueText(5);
    for (let round = 0; round < 3; round++) {
      const gone = harness.submit([again(text), again(text)]);
      await clock.settle();
      gone.hangUp();
    }
    const late = harness.submit([again(text)]);
    await finishAll();
    expect(hasOwnRows(late)).toBe(true);
    expect(sentCount()).toBe(9);
  });

  test('when its deadline passes takes nobody along', async () => {
    await occupy();
    const text = uniqueText(5);
    const hurried = [50, 20].map((timeoutMs) => harness.submit([again(text)], { timeoutMs }));
    const patient = harness.submit([again(text)]);
    await clock.advance(30);
    expect(hurried.map(({ error }) => error?.code)).toEqual([undefined, 'EMB_DEADLINE_EXCEEDED']);
    await clock.advance(30);
    expect(hurried.map(({ error }) => error?.details.limit)).toEqual([50, 20]);
    expect(patient.settleCount).toBe(0);
    await finishAll();
    expect(hasOwnRows(patient)).toBe(true);
    expect(sentCount()).toBe(9);
  });
});

describe('who is more urgent', () => {
  test('a query draws a text out of the background, and gives it back when it leaves', async () => {
    await occupy();
    const text = uniqueText(5);
    const job = harness.submit([text, ...texts(3)], { isBackground: true });
    const { foreground, background } = harness.batcher;
    const counts = () => [foreground.waitingTextCount, background.waitingTextCount];
    expect(counts()).toEqual([0, 4]);
    const query = harness.submit([again(text)]);
    expect(counts()).toEqual([1, 3]);
    const second = harness.submit([again(text)], { isBackground: true });
    query.hangUp();
    // The departed text stays until the queue is swept.
    expect(counts()).toEqual([1, 4]);
    const next = harness.submit([again(text)]);
    await finishAll();
    expect([job, next, second].every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(12);
  });

  test('a query does not wait for the other texts of a large request', async () => {
    await occupy();
    const many = texts(200);
    const bulk = harness.submit(many);
    const query = harness.submit([again(many[199])]);
    await clock.settle();
    backend.running[0].finish();
    await clock.settle();
    backend.running[0].finish();
    await clock.settle();
    expect(hasOwnRows(query)).toBe(true);
    expect(bulk.settleCount).toBe(0);
    await finishAll();
    expect(hasOwnRows(bulk)).toBe(true);
    expect(sentCount()).toBe(208);
  });

  test.each([false, true])(
    'a text is drawn from wherever it waits, background %p',
    async (isBackground) => {
      await occupy();
      const many = texts(20);
      const bulk = harness.submit(many, { batchTextsMax: 2, isBackground });
      const queries = [19, 10, 0, 1].map((at) => harness.submit([again(many[at])]));
      const { foreground, background } = harness.batcher;
      expect(foreground.waitingTextCount + background.waitingTextCount).toBe(20);
      await finishAll();
      expect([bulk, ...queries].every(hasOwnRows)).toBe(true);
      expect(sentCount()).toBe(28);
      expect(foreground.waitingTextCount + background.waitingTextCount).toBe(0);
    },
  );

  test('a text that runs is not called back for a more urgent one', async () => {
    const many = texts(8);
    const bulk = harness.submit(many);
    await clock.settle();
    const query = harness.submit([again(many[7])]);
    await finishAll();
    expect([bulk, query].every(hasOwnRows)).toBe(true);
    expect(sentCount()).toBe(8);
  });
});

describe('a text that fails', () => {
  test('fails for all who wait for it, and for nobody who comes later', async () => {
    const text = uniqueText(5);
    const jobs = [harness.submit([text]), harness.submit([again(text)])];
    await clock.settle();
    const refused = new ServerError('EMB_BACKEND_FAILED', 'refused');
    backend.running[0].fail(refused);
    await clock.settle();
    // It is tried once more by itself; this one has tries of its own.
    const later = harness.submit([again(text)]);
    backend.running[0].fail(refused);
    await finishAll();
    for (const { outcomes, settleCount } of jobs) {
      expect(outcomes).toEqual([refused]);
      expect(settleCount).toBe(1);
    }
    expect(hasOwnRows(later)).toBe(true);
    expect(sentCount()).toBe(3);
  });

  test('in a batch that is taken apart is saved for who is left', async () => {
    const [bad, good] = texts(2);
    const leader = harness.submit([good]);
    const others = [harness.submit([bad]), harness.submit([again(good)])];
    await clock.settle();
    const refused = new ServerError('EMB_BACKEND_FAILED', 'refused');
    backend.running[0].fail(refused);
    await clock.settle();
    leader.hangUp();
    for (let call = 0; call < 8 && backend.running.length > 0; call++) {
      const [batch] = backend.running;
      if (batch.texts.includes(bad)) batch.fail(refused);
      else batch.finish();
      await clock.settle();
    }
    expect(others[0].outcomes).toEqual([refused]);
    expect(hasOwnRows(others[1])).toBe(true);
  });

  test('twice with its worker is refused for all', async () => {
    const text = uniqueText(5);
    const death = (): ServerError =>
      new ServerError('EMB_BACKEND_FAILED', 'died', {
        cause: new BackendFault('died', { servedBy: 'fake', isDeath: true }),
      });
    const jobs = [harness.submit([text]), harness.submit([again(text)])];
    for (let call = 0; call < 2; call++) {
      await clock.settle();
      backend.running[0]?.fail(death());
    }
    await finishAll();
    for (const { outcomes } of jobs) {
      expect(outcomes).toMatchObject([{ code: 'EMB_BACKEND_FAILED' }]);
    }
    const refused = [harness.submit([again(text)]), harness.submit([again(text)])];
    await finishAll();
    for (const { outcomes } of refused) {
      expect(outcomes).toMatchObject([{ code: 'EMB_TEXT_REFUSED' }]);
    }
  });

  test('with a server that ends is told to all', async () => {
    await occupy();
    const text = uniqueText(5);
    const jobs = [harness.submit([text]), harness.submit([again(text)])];
    harness.batcher.close();
    await finishAll();
    for (const { outcomes, settleCount } of jobs) {
      expect(outcomes).toMatchObject([{ code: 'EMB_SHUTTING_DOWN' }]);
      expect(settleCount).toBe(1);
    }
  });
});

describe('with the row cache', () => {
  let cache: RowCache;

  beforeEach(() => {
    cache = new RowCache(1 << 20);
    harness = batcherHarness({ backend, clock, cache });
  });

  test('a row lands in it once, and at once when others wait for it', async () => {
    const text = uniqueText(5);
    const jobs = [1, 2, 3].map(() => harness.submit([again(text)]));
    await finishAll();
    const { bytes } = cache;
    expect(bytes).toBeGreaterThan(0);
    const last = harness.submit([again(text), ...texts(1)]);
    const bypass = harness.submit([again(text)], { bypassesCache: true });
    await finishAll();
    expect([...jobs, last, bypass].every(hasOwnRows)).toBe(true);
    expect(last.result?.cachedTextCount).toBe(1);
    expect(bypass.result?.cachedTextCount).toBeUndefined();
    expect(cache.bytes).toBe(bytes);
    expect(cache.counts).toEqual({ hit: 1, miss: 4 });
    expect(sentCount()).toBe(3);
    const known = harness.submit([again(text)]);
    await clock.settle();
    expect(hasOwnRows(known)).toBe(true);
  });

  test('no row is kept of a model that has gone, of one that stands in, or past a bypass', async () => {
    const text = uniqueText(5);
    const both = (options: object = {}) => {
      for (const _ of [1, 2]) harness.submit([again(text)], options);
    };
    both();
    await clock.settle();
    Object.assign(backend, { modelStarts: 1 });
    await finishAll();
    expect(cache.bytes).toBe(0);
    Object.assign(backend, { standIn: 'fake' });
    both();
    await finishAll();
    Object.assign(backend, { standIn: undefined });
    both({ bypassesCache: true });
    await finishAll();
    expect(cache.bytes).toBe(0);
    both();
    await finishAll();
    expect(cache.bytes).toBeGreaterThan(0);
    Object.assign(backend, { modelStarts: 2 });
    harness.submit([again(text)]);
    await clock.settle();
    expect(cache.bytes).toBe(0);
  });
});
