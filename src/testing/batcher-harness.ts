import { createCancellation } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import type { BackgroundLimits } from '../batcher/background.ts';
import { SHARING, type SharingLimits } from '../batcher/caller-queue.ts';
import { createMicroBatcher, type MicroBatcher } from '../batcher/micro-batcher.ts';
import type { JobResult, TextOutcome } from '../batcher/pending-request.ts';
import { keyOf, type RowCache } from '../batcher/row-cache.ts';
import { type Head, headSet } from '../vectors/output.ts';
import { type FakeBackend, fakeRow } from './fake-backend.ts';
import { seededRandom } from './seeded-random.ts';
import type { VirtualClock } from './virtual-clock.ts';

const DENSE = headSet(['dense']);

/** The defaults of the settings. */
export const BACKGROUND: BackgroundLimits = { delayMs: 40, share: 0.02, waitMs: 10_000 };

/** A job that was handed in, and what became of it. */
export interface TrackedJob {
  readonly texts: readonly Int32Array[];
  readonly submittedMs: number;
  /** When its promise was settled; undefined until then. */
  settledMs: number | undefined;
  settleCount: number;
  outcomes: readonly TextOutcome[] | undefined;
  result: JobResult | undefined;
  /** Tokens that were to be computed for it. */
  plannedTokenCount: number | undefined;
  error: ServerError | undefined;
  /** The caller hangs up. */
  hangUp(): void;
}

/** A micro-batcher on a fake backend and a virtual clock. */
export interface BatcherHarness {
  readonly batcher: MicroBatcher;
  submit(
    texts: readonly Int32Array[],
    options?: {
      batchTextsMax?: number;
      isBackground?: boolean;
      bypassesCache?: boolean;
      heads?: readonly Head[];
      caller?: string;
      timeoutMs?: number;
      onSettled?: () => void;
    },
  ): TrackedJob;
}

/** @param options.lingerMs and `holdShare` as of `createMicroBatcher`; none by default. */
export function batcherHarness(options: {
  backend: FakeBackend;
  clock: VirtualClock;
  lingerMs?: number;
  holdShare?: number;
  background?: BackgroundLimits;
  cache?: RowCache;
  sharing?: SharingLimits;
  tokenCountMax?: number;
}): BatcherHarness {
  const { backend, clock, lingerMs = 0, holdShare = 0, background = BACKGROUND } = options;
  const expected = { dimension: backend.dimension, isNormalized: true };
  const { cache, sharing = SHARING, tokenCountMax = 8192 } = options;
  const shared = { backend, clock, expected, background, sharing, cache };
  const batcher = createMicroBatcher({ ...shared, lingerMs, holdShare, tokenCountMax });
  return {
    batcher,
    submit(texts, options = {}) {
      const { batchTextsMax = Number.POSITIVE_INFINITY, timeoutMs = 1e9 } = options;
      const { isBackground = false, bypassesCache = false, heads = DENSE, caller } = options;
      const controller = new AbortController();
      const cancellation = createCancellation({ clock, timeoutMs, signal: controller.signal });
      const job: TrackedJob = {
        texts,
        submittedMs: clock.now(),
        settledMs: undefined,
        settleCount: 0,
        outcomes: undefined,
        result: undefined,
        plannedTokenCount: undefined,
        error: undefined,
        hangUp: () => controller.abort(),
      };
      const settled = (): void => {
        options.onSettled?.();
        job.settleCount++;
        job.settledMs = clock.now();
        cancellation.release();
      };
      batcher
        .submit({
          ...{ tokenIds: texts, heads, batchTextsMax, isBackground, bypassesCache, caller },
          cancellation,
          planned: (tokenCount) => {
            job.plannedTokenCount = tokenCount;
          },
        })
        .then(
          (result) => {
            job.result = result;
            job.outcomes = result.outcomes;
            settled();
          },
          (error: ServerError) => {
            job.error = error;
            settled();
          },
        );
      return job;
    },
  };
}

/** Whether each text of a job got its own row, to the last bit. */
export function hasOwnRows({ texts, outcomes }: TrackedJob): boolean {
  return texts.every((ids, index) => {
    const outcome = outcomes?.[index];
    if (outcome === undefined || outcome instanceof ServerError) return false;
    const row = fakeRow(ids);
    return outcome.dense?.every((value, at) => value === row[at]) ?? false;
  });
}

let idCount = 0;

/** A text of so many tokens that no other call gives again. */
export function uniqueText(tokenCount: number): Int32Array {
  const ids = new Int32Array(tokenCount).fill(5);
  ids[0] = ++idCount;
  return ids;
}

/** Texts that are like no other. */
export function uniqueTexts(count: number, tokenCount = 5): Int32Array[] {
  return Array.from({ length: count }, () => uniqueText(tokenCount));
}

/**
 * Two texts of one key, which differ in their first id. Among some 100,000 two have one key of 32
 * bits: the birthday paradox.
 */
export function textsOfOneKey(): readonly [Int32Array, Int32Array] {
  const byKey = new Map<number, Int32Array>();
  const random = seededRandom(5);
  for (let text = 0; text < 1_000_000; text++) {
    const ids = Int32Array.of(text, random.below(250_000), random.below(250_000), 7, 9, 2);
    const key = keyOf(ids, DENSE);
    const earlier = byKey.get(key);
    if (earlier !== undefined) return [earlier, ids];
    byKey.set(key, ids);
  }
  throw new Error('a million texts have a million keys');
}

/** Ends what runs, and whatever that lets run, until nothing does. */
export async function finishBatches(backend: FakeBackend, clock: VirtualClock): Promise<void> {
  await clock.settle();
  while (backend.running.length > 0) {
    for (const batch of backend.running) batch.finish();
    await clock.settle();
  }
}
