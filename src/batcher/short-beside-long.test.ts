import { beforeEach, expect, test } from 'bun:test';
import {
  type BatcherHarness,
  batcherHarness,
  hasOwnRows,
  type TrackedJob,
  uniqueTexts as texts,
} from '../testing/batcher-harness.ts';
import { createFakeBackend, type FakeBackend } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';

/**
 * A large model on a CPU: a text a batch, a slot for each core, and one that is spare. A long text
 * takes a minute, and nothing calls it back.
 *
 * Faults that were planted by hand, and that this suite caught: the spare slot for other callers
 * alone, as it was; for any text; for a text while the others are nearly done; longer texts that
 * are drawn because they are more urgent; every text of a model that computes one at a time taken
 * for bulk, as it was.
 */

const LONG = 8192;
const LIMITS = {
  ...{ isOneByOne: true, slotCount: 2, endpointCount: 2, spareSlotCount: 1 },
  ...{ batchTextsMax: 1, batchTokensMax: 1, launchTokens: 0 },
};
/** A ms a token, as the first batch tells. */
const MS_PER_TOKEN = 1;

let clock: VirtualClock;
let backend: FakeBackend;
let harness: BatcherHarness;

beforeEach(async () => {
  clock = new VirtualClock();
  backend = createFakeBackend({ limits: LIMITS });
  harness = batcherHarness({ backend, clock });
  harness.submit(texts(1, 100));
  await clock.settle();
  await clock.advance(100 * MS_PER_TOKEN);
  backend.running[0].finish();
  await clock.settle();
});

async function submit(length: number, caller?: string): Promise<TrackedJob> {
  const job = harness.submit(texts(1, length), caller === undefined ? {} : { caller });
  await clock.settle();
  return job;
}

const runs = ({ texts: [text] }: TrackedJob): boolean =>
  backend.running.some((batch) => batch.texts.includes(text));

test('a query does not wait for long texts of its own caller', async () => {
  await submit(LONG);
  await submit(LONG);
  const waiting = await submit(LONG);
  const query = await submit(16);
  expect([runs(waiting), runs(query)]).toEqual([false, true]);
  backend.running.at(-1)?.finish();
  await clock.settle();
  expect(hasOwnRows(query)).toBe(true);
  expect(runs(waiting)).toBe(false);
  // The next one as well, though the long text has waited for longer.
  await clock.advance(1000);
  expect(runs(await submit(16))).toBe(true);
});

test('nor for long texts whose callers have hung up', async () => {
  const gone = [await submit(LONG), await submit(LONG)];
  for (const job of gone) job.hangUp();
  expect(runs(await submit(16))).toBe(true);
});

test('nor for long texts before anything was measured', async () => {
  clock = new VirtualClock();
  backend = createFakeBackend({ limits: LIMITS });
  harness = batcherHarness({ backend, clock });
  await submit(LONG);
  await submit(LONG);
  expect(runs(await submit(16))).toBe(true);
});

test('a text that is not much shorter waits', async () => {
  await submit(LONG);
  await submit(LONG);
  expect(runs(await submit(LONG / 4))).toBe(false);
});

test('what would be through in a moment is waited for', async () => {
  await submit(200);
  await submit(200);
  expect(runs(await submit(16))).toBe(false);
  expect(backend.running.length).toBe(2);
});

test('a query of another caller does not wait for many texts that are as short', async () => {
  await submit(16, 'person');
  backend.running[0].finish();
  for (let count = 0; count < 40; count++) await submit(100, 'burst');
  for (const batch of [...backend.running]) batch.finish();
  await clock.settle();
  expect(backend.running.length).toBe(2);
  expect(runs(await submit(100, 'person'))).toBe(true);
});
