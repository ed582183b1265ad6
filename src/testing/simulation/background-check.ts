import type { BackgroundLimits } from '../../batcher/background.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import {
  type BackgroundGpu,
  type BackgroundJob,
  type BackgroundRun,
  type GpuSpan,
  gpuMs,
  loneTextMs,
  type QueryStream,
  runBackground,
} from './background-load.ts';

/**
 * What background texts must keep beside queries, checked for random GPUs, settings and loads:
 *
 * 1. A query waits for at most one background batch, and for the share beyond it.
 * 2. A background batch is as large as a quiet server, or its settings, allow; or it is one text.
 * 3. Background texts are never without their share for longer than they may be.
 * 4. The GPU is never idle while they wait.
 * 5. All is answered in the end.
 */

/** A random run, decided beforehand. */
interface Plan {
  readonly gpu: BackgroundGpu;
  readonly limits: BackgroundLimits;
  readonly queries: QueryStream;
  readonly job: BackgroundJob;
  readonly measureMs: number;
}

/** Without a query for so long a batch may be as large as any, as the batcher has it. */
const QUIET_MS = 10_000;
/** Until the batcher has measured the GPU. */
const WARM_UP_MS = 1500;
/** What the expected time of a batch may be wrong by. */
const SLACK = 1.25;
const SLACK_MS = 3;

/** @throws Error with the seed and the rule that is broken. */
export async function checkBackground(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const plan = planRun(random);
  const run = await runBackground({ ...plan, random, warmUpMs: WARM_UP_MS });
  const broken = brokenRule(plan, run);
  if (broken === undefined) return;
  throw new Error(`seed ${seed}: ${broken}: ${JSON.stringify(plan)}`);
}

function planRun(random: SeededRandom): Plan {
  const gpu: BackgroundGpu = {
    launchMs: random.pick([1, 4, 8]),
    tokensPerMs: random.pick([20, 120, 300]),
    lengthTokens: random.pick([1_000, 6_144, 1_000_000]),
    batchTextsMax: random.pick([8, 32, 64]),
    batchTokensMax: random.pick([2_048, 16_384]),
    slotCount: random.pick([1, 2, 2, 4]),
  };
  const limits: BackgroundLimits = {
    delayMs: random.pick([10, 40, 100]),
    share: random.pick([0.02, 0.05, 0.2]),
    waitMs: random.pick([0, 500, 2_000]),
  };
  const longest = random.pick([32, 32, 400]);
  const lengthOf = (of: SeededRandom): number => of.between(3, longest);
  // Up to what fills the GPU, and a little beyond.
  const mean = { textCount: gpu.batchTextsMax, paddedLength: Math.ceil(longest / 2) };
  const perMsMax = gpu.batchTextsMax / gpuMs(mean, gpu);
  const perMs = perMsMax * random.pick([0.02, 0.2, 0.5, 0.9, 1.1]);
  const pauses = random.below(3) === 0 ? ([[2_000, 13_000]] as const) : [];
  const job: BackgroundJob = {
    lengths: random.pick([
      [5, 30],
      [100, 500],
      [100, 500],
      [1_000, 4_000],
    ] as const),
    requestCount: random.pick([1, 4, 16]),
    textsPerRequest: random.pick([1, 16, 64]),
  };
  const measureMs = pauses.length > 0 ? 14_000 : 5_000;
  return { gpu, limits, queries: { perMs, lengthOf, pauses }, job, measureMs };
}

function brokenRule(plan: Plan, run: BackgroundRun): string | undefined {
  return (
    waitTooLong(plan, run) ??
    batchTooLarge(plan, run) ??
    starved(plan, run) ??
    idle(plan, run) ??
    (run.openCount > 0 ? `${run.openCount} requests were never answered` : undefined)
  );
}

/** Background work between the arrival of a query and the start of its batch. */
function waitTooLong(plan: Plan, run: BackgroundRun): string | undefined {
  const background = run.spans.filter(({ backgroundMs }) => backgroundMs > 0);
  let first = 0;
  for (const query of run.queries) {
    const own = run.spanOf(query);
    if (own === undefined) continue;
    const cameMs = query.submittedMs;
    while (first < background.length && background[first].endMs <= cameMs) first++;
    let [waitedMs, batchMs] = [0, 0];
    // What is at the backend already was sent before anybody knew of this query.
    let metMs = allowedMs(plan, run, cameMs);
    for (let at = first; at < background.length && background[at].startMs < own.startMs; at++) {
      const span = background[at];
      const part = Math.min(1, (span.endMs - cameMs) / (span.endMs - span.startMs));
      waitedMs += part * span.backgroundMs;
      if (span.isBackground) batchMs = Math.max(batchMs, span.endMs - span.startMs);
      if (span.sentMs < cameMs) metMs = Math.max(metMs, allowedMs(plan, run, span.sentMs));
    }
    // What goes before it is paid for by the share, of which launches may double the time, and what
    // rides along adds 5 % at most.
    const shareMs = (0.06 + 2 * plan.limits.share) * (own.endMs - cameMs);
    const boundMs = SLACK * Math.max(batchMs, metMs) + shareMs + SLACK_MS;
    if (waitedMs > boundMs) {
      return `a query of ${cameMs.toFixed(1)} ms waited ${waitedMs.toFixed(1)} ms for background, ${boundMs.toFixed(1)} are allowed`;
    }
  }
  return undefined;
}

function batchTooLarge(plan: Plan, run: BackgroundRun): string | undefined {
  for (const span of run.spans) {
    if (!span.isBackground || span.texts.length === 1 || span.sentMs < WARM_UP_MS) continue;
    const boundMs = SLACK * allowedMs(plan, run, span.sentMs) + SLACK_MS;
    if (span.endMs - span.startMs <= boundMs) continue;
    return `a background batch of ${span.texts.length} texts took ${(span.endMs - span.startMs).toFixed(1)} ms, ${boundMs.toFixed(1)} are allowed`;
  }
  return undefined;
}

/** What a background batch of several texts may take. */
function allowedMs(
  { gpu, limits }: Plan,
  { queries, isQuiet }: BackgroundRun,
  atMs: number,
): number {
  const fullMs =
    gpu.launchMs + (gpu.batchTokensMax * (1 + 512 / gpu.lengthTokens)) / gpu.tokensPerMs;
  return queries.length === 0 || isQuiet(atMs, QUIET_MS)
    ? fullMs
    : Math.min(fullMs, limits.delayMs);
}

/** Over any time that is long enough, the background has its share. */
function starved({ gpu, limits, job }: Plan, run: BackgroundRun): string | undefined {
  const longest = loneTextMs(new Int32Array(job.lengths[1]), gpu);
  const spanMs = Math.max(...run.spans.map(({ startMs, endMs }) => endMs - startMs));
  // One batch of the background pays for so long.
  const windowMs = limits.waitMs + (longest + limits.delayMs + spanMs) / limits.share + 3 * spanMs;
  const background = run.spans.filter(
    ({ texts, backgroundMs }) => texts.length > 0 && backgroundMs > 0,
  );
  let lastMs = 0;
  for (const { startMs } of [...background, { startMs: run.endMs } as GpuSpan]) {
    if (startMs > run.endMs) break;
    if (startMs - lastMs > windowMs) {
      return `no background text ran from ${lastMs.toFixed(0)} to ${startMs.toFixed(0)} ms, ${windowMs.toFixed(0)} are allowed`;
    }
    lastMs = startMs;
  }
  return undefined;
}

/** With one slot the way back is part of every batch; here it takes no time. */
function idle({ job }: Plan, run: BackgroundRun): string | undefined {
  if (job.requestCount < 4) return undefined;
  let freeMs = 0;
  for (const { startMs, endMs } of run.spans) {
    if (startMs > run.endMs) break;
    if (startMs - freeMs > SLACK_MS)
      return `idle from ${freeMs.toFixed(1)} to ${startMs.toFixed(1)} ms`;
    freeMs = Math.max(freeMs, endMs);
  }
  return undefined;
}
