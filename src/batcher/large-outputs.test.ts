import { expect, test } from 'bun:test';
import { batcherHarness, finishBatches, uniqueText } from '../testing/batcher-harness.ts';
import { createFakeBackend, fakeRow } from '../testing/fake-backend.ts';
import { VirtualClock } from '../testing/virtual-clock.ts';
import { headSet } from '../vectors/output.ts';

/**
 * Texts that get a good part of a megabyte: others come while one caller is told.
 *
 * Faults that were planted, and that this suite caught: all callers told in one turn; batches that
 * are being told not counted.
 */

const HEADS = [false, true].map((halves) => headSet(['multi_vector'], { halves }));

/** Rows of eight values: a quarter of a megabyte of float32. */
const LARGE_TOKENS = 8193;

/** Twice as many where they are halves. */
const textFor = (heads: (typeof HEADS)[number]) =>
  uniqueText(heads === HEADS[1] ? 2 * LARGE_TOKENS : LARGE_TOKENS);

const LIMITS = { batchTokensMax: 1e6, multiVectorTokensMax: 1e6, batchTextsMax: 3 };

test.each([
  ['float32', HEADS[0]],
  ['halves', HEADS[1]],
])('who comes while callers are told of %s is sent before the last is', async (_, set) => {
  const clock = new VirtualClock();
  const events: string[] = [];
  const backend = createFakeBackend({ limits: LIMITS, onBatch: () => events.push('sent') });
  const harness = batcherHarness({ backend, clock, tokenCountMax: 20_000 });
  const jobs = [0, 1, 2].map((at) =>
    harness.submit([textFor(set)], {
      heads: set,
      onSettled() {
        events.push(`told ${at}`);
        if (at === 0) harness.submit([uniqueText(5)]);
      },
    }),
  );
  await clock.settle();
  await finishBatches(backend, clock);
  expect(events.filter((event) => event !== 'sent')).toEqual(['told 0', 'told 1', 'told 2']);
  expect(events.lastIndexOf('sent')).toBeLessThan(events.indexOf('told 2'));
  for (const { texts, outcomes } of jobs) {
    const [outcome] = outcomes ?? [];
    expect(outcome).toHaveProperty(set === HEADS[1] ? 'halves' : 'multi_vector');
    expect(Object.values(outcome ?? {})[0].slice(-8)).toEqual(rowFor(set, texts[0]));
  }
});

function rowFor(heads: (typeof HEADS)[number], ids: Int32Array): Float32Array | Float16Array {
  return heads === HEADS[1] ? new Float16Array(fakeRow(ids)) : fakeRow(ids);
}

test('no more batches hold memory of the backend than its slots and one', async () => {
  const clock = new VirtualClock();
  let heldMax = 0;
  const backend = createFakeBackend({
    limits: { ...LIMITS, slotCount: 2 },
    onBatch: () => {
      heldMax = Math.max(heldMax, backend.running.length + backend.lentCount);
    },
  });
  const harness = batcherHarness({ backend, clock, tokenCountMax: 20_000 });
  const jobs = Array.from({ length: 30 }, () =>
    harness.submit([uniqueText(LARGE_TOKENS)], { heads: HEADS[0] }),
  );
  await finishBatches(backend, clock);
  expect(jobs.map(({ outcomes }) => outcomes?.length)).toEqual(jobs.map(() => 1));
  expect(heldMax).toBe(3);
  expect(backend.lentCount).toBe(0);
});

/** Caught, planted: who goes along gets the memory of the first. */
test('equal texts that are wanted as halves have memory of their own', async () => {
  const clock = new VirtualClock();
  const backend = createFakeBackend();
  const harness = batcherHarness({ backend, clock });
  const text = uniqueText(5);
  const first = harness.submit([text], { heads: HEADS[1] });
  const second = harness.submit([text.slice(), text.slice()], { heads: HEADS[1] });
  await finishBatches(backend, clock);
  first.result?.giveBack();
  harness.submit([uniqueText(5)], { heads: HEADS[1] });
  await finishBatches(backend, clock);
  const row = [...fakeRow(text)];
  const right = { halves: Float16Array.from([...row, ...row, ...row, ...row]) };
  expect(second.outcomes).toEqual([right, right]);
});
