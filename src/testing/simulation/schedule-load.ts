import { planProfiles } from '../../model/engine-profiles.ts';
import { batcherHarness, type TrackedJob, uniqueText } from '../batcher-harness.ts';
import { createFakeBackend, type FakeBatch } from '../fake-backend.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';
import { batchMs, clairvoyantSchedule, type ScheduleModel } from './clairvoyant.ts';

/**
 * A middling GPU with the default engine: 4 ms a launch, 120,000 tokens a second, and attention as
 * dear as the rest at 6,144 tokens (0.604 GFLOP a token and 98,304 times the length, 24 layers of
 * 1,024).
 */
export const GPU: ScheduleModel = {
  launchMs: 4,
  tokensPerSecond: 120_000,
  lengthTokens: 6_144,
  batchTextsMax: 64,
  batchTokensMax: 16_384,
  profiles: planProfiles({ batchTokensMax: 16_384, tokensMax: 8_192, batchTextsMax: 64 }),
};

/** What the batcher knows of its cost: as `BatchCost` learns it. */
const COST = { launchTokens: 480, lengthTokens: 6_144 };

/** Shares of kinds of texts, in hundredths. */
export interface Mix {
  readonly query: number;
  readonly paragraph: number;
  readonly page: number;
  readonly document: number;
}

export const MIXES = {
  query: { query: 100, paragraph: 0, page: 0, document: 0 },
  document: { query: 0, paragraph: 20, page: 50, document: 30 },
  mixed: { query: 60, paragraph: 25, page: 13, document: 2 },
} as const satisfies Readonly<Record<string, Mix>>;

/** Tokens: a search query, a paragraph, a page, a document. */
const LENGTHS: Readonly<Record<keyof Mix, readonly [number, number]>> = {
  query: [3, 32],
  paragraph: [90, 190],
  page: [300, 700],
  document: [1_500, 8_192],
};

function randomLength(random: SeededRandom, mix: Mix): number {
  let left = random.below(100);
  for (const kind of ['query', 'paragraph', 'page', 'document'] as const) {
    left -= mix[kind];
    if (left < 0) return random.between(...LENGTHS[kind]);
  }
  return random.between(...LENGTHS.query);
}

interface SimulatedGpu {
  readonly clock: VirtualClock;
  readonly harness: ReturnType<typeof batcherHarness>;
  readonly batches: readonly FakeBatch[];
}

/**
 * How batches in flight share the GPU.
 *
 * - `one instance`: one is computed after the other.
 * - `two, by kernels`: two at once, kernel by kernel in turn, as a GPU does where each kernel fills
 *   it. A batch has as many kernels as another, so a short one waits for each of the long one's.
 * - `two, by time`: two at once, each at half speed: the best that two instances could do.
 */
export type GpuSharing = 'one instance' | 'two, by kernels' | 'two, by time';

/** One GPU behind the batcher, with two batches in flight. */
function startGpu(sharing: GpuSharing = 'one instance'): SimulatedGpu {
  const clock = new VirtualClock();
  let changedMs = 0;
  let cancel = (): void => undefined;
  const inFlight: { readonly totalMs: number; leftMs: number; finish: () => void }[] = [];
  const running = () => inFlight.slice(0, sharing === 'one instance' ? 1 : 2);
  /** The share of the GPU that each of those that run has. */
  const shareOf = ({ totalMs }: { totalMs: number }): number => {
    const totals = running().map((one) => one.totalMs);
    if (sharing !== 'two, by kernels') return 1 / totals.length;
    return totalMs / totals.reduce((sum, ms) => sum + ms, 0);
  };
  const pass = (): void => {
    for (const one of running()) one.leftMs -= (clock.now() - changedMs) * shareOf(one);
    changedMs = clock.now();
  };
  const goOn = (): void => {
    cancel();
    const ends = running().map((one) => ({ one, ms: one.leftMs / shareOf(one) }));
    const [next] = ends.toSorted((a, b) => a.ms - b.ms);
    if (next === undefined) return;
    cancel = clock.schedule(next.ms, () => {
      pass();
      inFlight.splice(inFlight.indexOf(next.one), 1);
      next.one.finish();
      goOn();
    });
  };
  const onBatch = (batch: FakeBatch): void => {
    const totalMs = batchMs({ longest: batch.paddedLength, count: batch.texts.length }, GPU);
    pass();
    inFlight.push({ totalMs, leftMs: totalMs, finish: batch.finish });
    goOn();
  };
  const { batchTextsMax, batchTokensMax, profiles = [] } = GPU;
  const limits = {
    ...{ slotCount: 2, batchTextsMax, batchTokensMax, profiles },
    ...{ multiVectorTokensMax: batchTokensMax, ...COST },
  };
  const backend = createFakeBackend({ limits, onBatch });
  return {
    clock,
    harness: batcherHarness({ backend, clock, holdShare: 0.5 }),
    batches: backend.batches,
  };
}

/** What became of a load at saturation. */
export interface SaturationResult {
  /** Useful tokens over padded ones. */
  readonly fill: number;
  /** Time of the clairvoyant schedule of the same texts, over the time that the GPU computed. */
  readonly share: number;
  readonly batchCount: number;
  readonly textsPerBatch: number;
  /** Latencies of the texts of up to 512 tokens, in ms. */
  readonly p50: number;
  readonly p99: number;
}

/** Keeps so many texts waiting, one a request, until so many were answered. */
export async function saturate(options: {
  readonly mix: Mix;
  readonly seed: number;
  readonly waitingCount?: number;
  readonly textCount?: number;
}): Promise<SaturationResult> {
  const { mix, seed, waitingCount = 512, textCount = 4_000 } = options;
  const random = seededRandom(seed);
  const gpu = startGpu();
  let submitted = 0;
  const jobs: ReturnType<typeof gpu.harness.submit>[] = [];
  const submit = (): void => {
    if (submitted >= textCount) return;
    submitted++;
    jobs.push(gpu.harness.submit([uniqueText(randomLength(random, mix))], { onSettled: submit }));
  };
  for (let count = 0; count < waitingCount; count++) submit();
  await gpu.clock.advance(1e7);
  // The last texts have none behind them to fill their batches with.
  let left = textCount - waitingCount;
  const counted = gpu.batches.filter(({ texts }) => {
    left -= texts.length;
    return left >= 0;
  });
  const lengths = counted.flatMap(({ texts }) => texts.map((ids) => ids.length));
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const takenMs = sum(
    counted.map(({ paddedLength, texts }) =>
      batchMs({ longest: paddedLength, count: texts.length }, GPU),
    ),
  );
  const padded = sum(counted.map(({ paddedLength, texts }) => paddedLength * texts.length));
  return {
    fill: sum(lengths) / padded,
    share: clairvoyantSchedule(lengths, GPU).totalMs / takenMs,
    batchCount: counted.length,
    textsPerBatch: lengths.length / counted.length,
    ...quantilesOf(jobs.slice(waitingCount).filter(({ texts: [ids] }) => ids.length <= 512)),
  };
}

function quantilesOf(jobs: readonly TrackedJob[]): { readonly p50: number; readonly p99: number } {
  const latencies = jobs
    .map(({ settledMs, submittedMs }) => (settledMs ?? Number.POSITIVE_INFINITY) - submittedMs)
    .sort((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor((latencies.length - 1) * share)] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

/** Latencies of queries beside documents of 8,000 tokens, in ms. */
export async function besideDocuments(options: {
  readonly seed: number;
  readonly load?: number;
  readonly queryCount?: number;
  readonly sharing?: GpuSharing;
}): Promise<{ readonly p50: number; readonly p99: number; readonly documentP50: number }> {
  const { seed, load = 0.5, queryCount = 4_000, sharing } = options;
  const random = seededRandom(seed);
  const lengths = Array.from({ length: queryCount }, () =>
    random.below(20) === 0 ? 8_000 : random.between(...LENGTHS.query),
  );
  const gapMs = clairvoyantSchedule(lengths, GPU).totalMs / lengths.length / load;
  const gpu = startGpu(sharing);
  const jobs = lengths.map((length) => ({ length, ids: uniqueText(length) }));
  const tracked: { length: number; job: ReturnType<typeof gpu.harness.submit> }[] = [];
  let atMs = 0;
  for (const { length, ids } of jobs) {
    // Poisson arrivals.
    atMs += -Math.log(1 - random.below(1e9) / 1e9) * gapMs;
    gpu.clock.schedule(atMs, () => tracked.push({ length, job: gpu.harness.submit([ids]) }));
  }
  await gpu.clock.advance(atMs + 1e7);
  const latencies = (isDocument: boolean): number[] =>
    tracked
      .filter(({ length }) => length > 512 === isDocument)
      .map(({ job }) => (job.settledMs ?? Number.POSITIVE_INFINITY) - job.submittedMs)
      .sort((a, b) => a - b);
  const at = (values: readonly number[], share: number): number =>
    values[Math.min(values.length - 1, Math.floor(values.length * share))] ?? 0;
  const queries = latencies(false);
  return { p50: at(queries, 0.5), p99: at(queries, 0.99), documentP50: at(latencies(true), 0.5) };
}
