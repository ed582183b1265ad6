import type { BackgroundLimits } from '../../batcher/background.ts';
import { paddedLengthOf, textCostOf } from '../../batcher/plan.ts';
import { BACKGROUND, batcherHarness, type TrackedJob, uniqueText } from '../batcher-harness.ts';
import { createFakeBackend, type FakeBatch } from '../fake-backend.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';

/** One GPU that computes batch after batch, and what a batch takes there. */
export interface BackgroundGpu {
  readonly launchMs: number;
  readonly tokensPerMs: number;
  readonly lengthTokens: number;
  readonly batchTextsMax: number;
  readonly batchTokensMax: number;
  readonly slotCount: number;
}

/** As `TIMED_MODEL` of the benches. */
export const MIDDLING_GPU: BackgroundGpu = {
  ...{ launchMs: 4, tokensPerMs: 120, lengthTokens: 6_144 },
  ...{ batchTextsMax: 64, batchTokensMax: 16_384, slotCount: 2 },
};

/** Texts that are kept waiting: so many requests at any time, each of so many texts. */
export interface BackgroundJob {
  readonly lengths: readonly [min: number, max: number];
  readonly requestCount: number;
  readonly textsPerRequest: number;
}

/** Queries at random times, one text each. */
export interface QueryStream {
  readonly perMs: number;
  /** Length of each. */
  readonly lengthOf: (random: SeededRandom) => number;
  /** Times in which none come: `[from, to]` in ms, ascending. */
  readonly pauses?: readonly (readonly [from: number, to: number])[];
}

/** A batch on the GPU, from its departure to its end. */
export interface GpuSpan {
  readonly sentMs: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly texts: readonly Int32Array[];
  /** All of its texts are of the background. */
  readonly isBackground: boolean;
  /** Time that it takes longer for texts of the background. */
  readonly backgroundMs: number;
}

/** What became of a load. */
export interface BackgroundRun {
  readonly spans: readonly GpuSpan[];
  readonly queries: readonly TrackedJob[];
  /** Tokens of the background that got done in the measured time. */
  readonly backgroundTokens: number;
  readonly measuredMs: number;
  /** Part of the measured time in which the GPU computed. */
  readonly busyPart: number;
  /** When the job and the queries ended. */
  readonly endMs: number;
  /** Requests that were never settled. */
  readonly openCount: number;
  /** Whether no query had come for so long. */
  isQuiet(atMs: number, forMs: number): boolean;
  /** Which batch a query rode in. */
  spanOf(query: TrackedJob): GpuSpan | undefined;
}

/** Time of a batch on the GPU, in ms. */
export function gpuMs(
  { textCount, paddedLength }: { textCount: number; paddedLength: number },
  gpu: BackgroundGpu,
): number {
  return gpu.launchMs + (textCount * textCostOf(paddedLength, gpu)) / gpu.tokensPerMs;
}

/** Runs queries, a job, or both on a virtual clock; then all that waits is answered. */
export async function runBackground(options: {
  readonly random: SeededRandom;
  readonly gpu?: BackgroundGpu;
  readonly limits?: BackgroundLimits;
  readonly queries?: QueryStream | undefined;
  readonly job?: BackgroundJob | undefined;
  readonly warmUpMs?: number;
  readonly measureMs: number;
}): Promise<BackgroundRun> {
  const { random, gpu = MIDDLING_GPU, limits = BACKGROUND, warmUpMs = 500, measureMs } = options;
  const clock = new VirtualClock();
  const ofJob = new WeakSet<Int32Array>();
  const spans: GpuSpan[] = [];
  let freeMs = 0;
  const onBatch = ({ texts, paddedLength, finish }: FakeBatch): void => {
    const sentMs = clock.now();
    const startMs = Math.max(sentMs, freeMs);
    const own = texts.filter((ids) => !ofJob.has(ids));
    const totalMs = gpuMs({ textCount: texts.length, paddedLength }, gpu);
    const isBackground = own.length === 0;
    const ownMs = isBackground ? 0 : gpuMs({ textCount: own.length, paddedLength }, gpu);
    freeMs = startMs + totalMs;
    const backgroundMs = totalMs - ownMs;
    spans.push({ sentMs, startMs, endMs: freeMs, texts, isBackground, backgroundMs });
    clock.schedule(freeMs - sentMs, finish);
  };
  const backend = createFakeBackend({
    limits: {
      slotCount: gpu.slotCount,
      batchTextsMax: gpu.batchTextsMax,
      batchTokensMax: gpu.batchTokensMax,
      multiVectorTokensMax: gpu.batchTokensMax,
      launchTokens: gpu.launchMs * gpu.tokensPerMs,
      lengthTokens: gpu.lengthTokens,
    },
    onBatch,
  });
  const harness = batcherHarness({ backend, clock, holdShare: 0.5, background: limits });
  const endMs = warmUpMs + measureMs;
  let backgroundTokens = 0;
  let openCount = 0;

  function sendJob({ lengths, textsPerRequest }: BackgroundJob): void {
    if (clock.now() >= endMs) return;
    const texts = Array.from({ length: textsPerRequest }, () =>
      uniqueText(random.between(...lengths)),
    );
    for (const ids of texts) ofJob.add(ids);
    const onSettled = (): void => {
      openCount--;
      sendJob({ lengths, textsPerRequest, requestCount: 1 });
    };
    openCount++;
    harness.submit(texts, { isBackground: true, onSettled });
  }

  const { job, queries } = options;
  for (let count = 0; job !== undefined && count < job.requestCount; count++) sendJob(job);
  const sent = queries === undefined ? [] : planQueries(queries, endMs, { random, clock, harness });
  await clock.advance(endMs);
  const [fromMs, untilMs] = [warmUpMs, endMs];
  let busyMs = 0;
  for (const span of spans) {
    const inside = Math.min(span.endMs, untilMs) - Math.max(span.startMs, fromMs);
    if (inside <= 0) continue;
    busyMs += inside;
    const part = inside / (span.endMs - span.startMs);
    for (const ids of span.texts) if (ofJob.has(ids)) backgroundTokens += part * ids.length;
  }
  await clock.advance(1e6);
  const spanByText = new Map(spans.flatMap((span) => span.texts.map((ids) => [ids, span])));
  return {
    spans,
    queries: sent.filter(({ submittedMs }) => submittedMs >= warmUpMs),
    backgroundTokens,
    measuredMs: measureMs,
    busyPart: busyMs / measureMs,
    endMs,
    openCount: openCount + sent.filter(({ settleCount }) => settleCount !== 1).length,
    isQuiet: (atMs, forMs) =>
      !sent.some(({ submittedMs }) => submittedMs <= atMs && submittedMs > atMs - forMs),
    spanOf: ({ texts: [ids] }) => spanByText.get(ids),
  };
}

function planQueries(
  { perMs, lengthOf, pauses = [] }: QueryStream,
  endMs: number,
  by: { random: SeededRandom; clock: VirtualClock; harness: ReturnType<typeof batcherHarness> },
): TrackedJob[] {
  const { random, clock, harness } = by;
  const sent: TrackedJob[] = [];
  for (let atMs = 0; ; ) {
    // Poisson arrivals.
    atMs += -Math.log(1 - random.below(1e9) / 1e9) / perMs;
    const pause = pauses.find(([from, to]) => atMs >= from && atMs < to);
    if (pause !== undefined) [, atMs] = pause;
    if (atMs >= endMs) return sent;
    const ids = uniqueText(lengthOf(random));
    clock.schedule(atMs, () => sent.push(harness.submit([ids])));
  }
}

/** What is longer is a document. */
const QUERY_TOKENS_MAX = 64;

/** The time at this share of the latencies of all queries that are no documents, in ms. */
export function latencyAt({ queries }: BackgroundRun, share: number): number {
  const latencies = queries
    .filter(({ texts: [ids] }) => ids.length <= QUERY_TOKENS_MAX)
    .map(({ submittedMs, settledMs = Number.POSITIVE_INFINITY }) => settledMs - submittedMs)
    .sort((a, b) => a - b);
  return latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
}

/** What one text alone takes in a batch, in ms. */
export function loneTextMs(ids: Int32Array, gpu: BackgroundGpu): number {
  return gpuMs({ textCount: 1, paddedLength: paddedLengthOf(ids.length) }, gpu);
}

const short = (random: SeededRandom): number => random.between(3, 32);
const withDocuments = (random: SeededRandom): number =>
  random.below(20) === 0 ? 8_000 : random.between(3, 32);

/** Loads of queries on `MIDDLING_GPU`: alone, and with documents as `besideDocuments` has them. */
export const LOADS = [
  { name: '50 queries/s', perMs: 0.05, lengthOf: short },
  { name: '300 queries/s', perMs: 0.3, lengthOf: short },
  { name: '2,100 queries/s, half of what it takes', perMs: 2.1, lengthOf: short },
  { name: '4,000 queries/s, 95 % of what it takes', perMs: 4, lengthOf: short },
  { name: '5 % documents, half load', perMs: 0.05, lengthOf: withDocuments },
  { name: '5 % documents, full load', perMs: 0.1, lengthOf: withDocuments },
] as const;

/** Paragraphs, eight requests of 64 at any time. */
const PARAGRAPHS: BackgroundJob = { lengths: [100, 500], requestCount: 8, textsPerRequest: 64 };

/** Queries without a job, the same with one, and that job alone. */
export async function compareWithJob(options: {
  readonly seed: number;
  readonly queries: QueryStream;
  readonly limits?: BackgroundLimits;
  readonly measureMs?: number;
}): Promise<{
  readonly p99: number;
  readonly p99Beside: number;
  /** Part of the time in which the GPU has nothing to do with the queries alone. */
  readonly leftPart: number;
  /** The job's tokens beside the queries, as a part of those that it gets done alone. */
  readonly jobPart: number;
}> {
  const { seed, queries, limits = BACKGROUND, measureMs = 15_000 } = options;
  const run = (load: { queries?: QueryStream; job?: BackgroundJob }): Promise<BackgroundRun> =>
    runBackground({ random: seededRandom(seed), limits, measureMs, ...load });
  const without = await run({ queries });
  const beside = await run({ queries, job: PARAGRAPHS });
  const alone = await run({ job: PARAGRAPHS });
  return {
    p99: latencyAt(without, 0.99),
    p99Beside: latencyAt(beside, 0.99),
    leftPart: 1 - without.busyPart,
    jobPart: beside.backgroundTokens / alone.backgroundTokens,
  };
}
