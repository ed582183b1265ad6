import { beforeEach, expect, test } from 'bun:test';
import { ServerError } from '../base/errors.ts';
import {
  type BatcherHarness,
  batcherHarness,
  hasOwnRows,
  uniqueText,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';

/**
 * A backend that computes what was sent to its end, as a CPU does: a text that takes longer than
 * its caller waits.
 *
 * Faults that were planted by hand, and that this suite caught: the text computed anew for each
 * try, as it was; its batch given up; a text joined although it only waited; one that is not saved
 * when its batch is taken apart.
 */

let clock: VirtualClock;
let backend: FakeBackend;
let harness: BatcherHarness;

beforeEach(() => {
  clock = new VirtualClock();
  backend = createFakeBackend({ limits: { isOneByOne: true, slotCount: 1, endpointCount: 1 } });
  Object.assign(backend, { isUnstoppable: true });
  harness = batcherHarness({ backend, clock });
});

const text = uniqueText(500);

async function submit(timeoutMs: number, ids = text) {
  const job = harness.submit([ids.slice()], { timeoutMs });
  await clock.settle();
  return job;
}

test('who asks again gets what was begun for the first try', async () => {
  const first = await submit(60);
  await clock.advance(60);
  expect(first.error?.code).toBe('EMB_DEADLINE_EXCEEDED');
  expect(backend.batches[0].signal?.aborted).toBe(false);
  const second = await submit(60);
  await clock.advance(60);
  expect(second.error?.code).toBe('EMB_DEADLINE_EXCEEDED');
  const [third, fourth] = [await submit(60), await submit(60)];
  third.hangUp();
  backend.running[0].finish();
  await clock.settle();
  expect([hasOwnRows(fourth), backend.batches.length]).toEqual([true, 1]);
  expect(third.outcomes).toBeUndefined();
  // What is over is not joined.
  const later = await submit(60);
  expect(backend.batches.length).toBe(2);
  backend.running[0].finish();
  await clock.settle();
  expect(hasOwnRows(later)).toBe(true);
});

test('a text that only waited is dropped with its caller', async () => {
  await submit(1000, uniqueText(9));
  const waiting = await submit(1000);
  waiting.hangUp();
  const again = await submit(1000);
  backend.running[0].finish();
  await clock.settle();
  expect(backend.batches.length).toBe(2);
  backend.running[0].finish();
  await clock.settle();
  expect(hasOwnRows(again)).toBe(true);
});

test('in a batch that is taken apart it is saved for who asked again', async () => {
  backend.changeLimits({ batchTextsMax: 8, batchTokensMax: 4096 });
  await submit(1000, uniqueText(9));
  const [bad, first] = [harness.submit([uniqueText(9)]), harness.submit([text])];
  backend.running[0].finish();
  await clock.settle();
  first.hangUp();
  const second = await submit(1000);
  const error = new ServerError('EMB_BACKEND_FAILED', 'It failed.');
  while (backend.running.length > 0) {
    const [batch] = backend.running;
    if (batch.texts.some((ids) => ids.length === 9)) batch.fail(error);
    else batch.finish();
    await clock.settle();
  }
  expect(bad.outcomes).toEqual([error]);
  expect(hasOwnRows(second)).toBe(true);
});

test('what fails is told to who asked again', async () => {
  const first = await submit(60);
  first.hangUp();
  const second = await submit(1000);
  const error = new ServerError('EMB_BACKEND_FAILED', 'It failed.');
  while (second.settleCount === 0) {
    backend.running[0].fail(error);
    await clock.settle();
  }
  expect(second.outcomes?.[0]).toBeInstanceOf(ServerError);
});
