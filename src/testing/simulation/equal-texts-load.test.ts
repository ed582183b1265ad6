import { expect, test } from 'bun:test';
import { BackendFault, type BackendLimits } from '../../backend/contract.ts';
import { type ErrorCode, ServerError } from '../../base/errors.ts';
import type { TextOutcome } from '../../batcher/pending-request.ts';
import { RowCache } from '../../batcher/row-cache.ts';
import { type Head, headSet } from '../../vectors/output.ts';
import { type BatcherHarness, batcherHarness, type TrackedJob } from '../batcher-harness.ts';
import { createFakeBackend, type FakeBackend, type FakeBatch, fakeRow } from '../fake-backend.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';

/**
 * The micro-batcher where few texts come again and again: of several callers, in the background or
 * not, for several sets of heads, past the cache or not, from callers who leave, over a backend
 * that fails at times. What a request got is read when it is settled, and once more after its
 * memory might have become another's.
 *
 * Caught: halves that come from the cache without a row of float32. Caught, planted: halves of the
 * first for who goes along; a text whose caller has left that is handed on to nobody; who goes
 * along and is not told; memory of the backend that is given back too early, or never.
 */

const HEADS = [
  headSet(['dense']),
  headSet(['dense', 'multi_vector']),
  headSet(['dense', 'multi_vector'], { halves: true }),
];
const LENGTHS = [3, 3, 5, 9, 60, 300];
const TEXTS = 12;
const HELD_MAX = 6;

/** Nothing takes so long. */
const PATIENT_MS = 1e6;

/** Why a request may fail of itself, and a text where the backend fails. */
const ENDINGS: readonly ErrorCode[] = ['EMB_REQUEST_ABORTED', 'EMB_DEADLINE_EXCEEDED'];
const FAULTS: readonly ErrorCode[] = [
  'EMB_BACKEND_UNAVAILABLE',
  'EMB_BACKEND_TIMEOUT',
  'EMB_BACKEND_FAILED',
];

/** A run, and what was wrong in it. */
interface Run {
  readonly random: SeededRandom;
  readonly clock: VirtualClock;
  readonly backend: FakeBackend;
  readonly harness: BatcherHarness;
  readonly texts: readonly Int32Array[];
  /** Whether the backend never fails. */
  readonly isSound: boolean;
  readonly problems: string[];
}

function startRun(seed: number): Run {
  const random = seededRandom(Math.imul(seed, 2_654_435_761) >>> 0);
  const clock = new VirtualClock();
  const isUnstoppable = random.below(3) === 0;
  const failuresIn = random.pick([0, 0, 8, 3]);
  const slotCount = random.between(1, 3);
  const limits: Partial<BackendLimits> =
    random.below(3) === 0
      ? { slotCount, spareSlotCount: 1, batchTextsMax: 4, batchTokensMax: 320, isOneByOne: true }
      : { slotCount, endpointCount: slotCount, batchTextsMax: 8, launchTokens: 100 };
  const backend = createFakeBackend({
    limits,
    onBatch(batch) {
      const workMs = 4 + (batch.texts.length * batch.paddedLength) / 30 + random.below(10);
      const cancel = clock.schedule(workMs, () => end(batch, failuresIn, random));
      if (isUnstoppable) return;
      batch.signal?.addEventListener('abort', () => {
        cancel();
        batch.fail(new ServerError('EMB_REQUEST_ABORTED', 'Nobody waits.'));
      });
    },
  });
  Object.assign(backend, { isUnstoppable, modelStarts: 0 });
  const cache = random.below(2) === 0 ? { cache: new RowCache(1 << 18) } : {};
  const pauses = { holdShare: random.pick([0, 0.5]), lingerMs: random.pick([0, 2]) };
  const harness = batcherHarness({ backend, clock, ...pauses, ...cache });
  const texts = Array.from({ length: TEXTS }, (_, at) =>
    new Int32Array(random.pick(LENGTHS)).fill(5).fill(seed * TEXTS + at, 0, 1),
  );
  return { random, clock, backend, harness, texts, isSound: failuresIn === 0, problems: [] };
}

function end(batch: FakeBatch, failuresIn: number, random: SeededRandom): void {
  if (failuresIn === 0 || random.below(failuresIn) > 0) {
    batch.finish();
    return;
  }
  const isDeath = random.below(2) === 0;
  const cause = new BackendFault('planned', { servedBy: 'fake', isDeath });
  batch.fail(new ServerError(random.pick(FAULTS), 'planned', { cause }));
}

function submit({ random, harness, texts }: Run, onSettled: (heads: readonly Head[]) => void) {
  const heads = random.pick(HEADS);
  const count = random.pick([1, 1, 2, 12]);
  const job = harness.submit(
    Array.from({ length: count }, () => random.pick(texts).slice()),
    {
      batchTextsMax: random.pick([Number.POSITIVE_INFINITY, 1, 3]),
      isBackground: random.below(4) === 0,
      bypassesCache: random.below(5) === 0,
      heads,
      caller: random.pick(['a', 'a', 'b', 'c']),
      timeoutMs: random.pick([PATIENT_MS, PATIENT_MS, PATIENT_MS, 40, 5]),
      onSettled: () => onSettled(heads),
    },
  );
  return job;
}

/** What is wrong with the outcomes of a job, by what the fake gives for each text. */
function checkOutcomes({ isSound, problems }: Run, job: TrackedJob, heads: readonly Head[]): void {
  for (const [index, ids] of job.texts.entries()) {
    const outcome = job.outcomes?.[index];
    const mayFail = !isSound && outcome instanceof ServerError;
    if (!mayFail && !isRight(outcome, ids, heads)) problems.push(`text ${ids[0]}: ${outcome}`);
  }
}

function isRight(outcome: TextOutcome | undefined, ids: Int32Array, heads: readonly Head[]) {
  if (outcome === undefined || outcome instanceof ServerError) return false;
  const row = fakeRow(ids);
  const vectors = Array.from({ length: ids.length - 1 }, () => [...row]).flat();
  const { dense, multi_vector, halves } = outcome;
  if (!Bun.deepEquals(dense, row)) return false;
  if (heads === HEADS[0]) return multi_vector === undefined && halves === undefined;
  if (heads === HEADS[1]) return Bun.deepEquals(multi_vector, Float32Array.from(vectors));
  return Bun.deepEquals(halves, Float16Array.from(vectors));
}

test.each(Array.from({ length: 40 }, (_, at) => at + 1))('seed %d', async (seed) => {
  const run = startRun(seed);
  const { random, clock, backend, harness, problems } = run;
  const jobs: TrackedJob[] = [];
  const held: { job: TrackedJob; heads: readonly Head[] }[] = [];
  const letGo = (): void => {
    for (const { job, heads } of held.splice(random.below(held.length), 1)) {
      checkOutcomes(run, job, heads);
      job.result?.giveBack();
    }
  };
  for (let step = 0; step < 100; step++) {
    for (let count = random.pick([0, 1, 1, 6]); count > 0; count--) {
      const job: TrackedJob = submit(run, (heads) => {
        if (job.outcomes === undefined) return;
        checkOutcomes(run, job, heads);
        held.push({ job, heads });
      });
      jobs.push(job);
    }
    if (jobs.length > 0 && random.below(3) === 0) random.pick(jobs).hangUp();
    if (random.below(20) === 0) Object.assign(backend, { modelStarts: step });
    await clock.advance(random.pick([0, 1, 5, 20]));
    while (held.length > HELD_MAX) letGo();
  }
  await clock.advance(2 * PATIENT_MS);
  while (held.length > 0) letGo();
  for (const { settleCount, error, submittedMs, settledMs = 0 } of jobs) {
    if (settleCount !== 1) problems.push(`settled ${settleCount} times`);
    if (settledMs - submittedMs >= PATIENT_MS) problems.push('left lying until its deadline');
    if (error !== undefined && !ENDINGS.includes(error.code)) problems.push(error.code);
  }
  expect(problems).toEqual([]);
  const { foreground, background, batchesInFlight } = harness.batcher;
  expect([foreground.waitingTextCount, background.waitingTextCount, batchesInFlight]).toEqual([
    0, 0, 0,
  ]);
  expect([backend.lentCount, clock.plannedCount]).toEqual([0, 0]);
});
