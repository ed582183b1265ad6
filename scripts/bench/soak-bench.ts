/**
 * A million requests, and what is left of them: `bun scripts/bench/soak-bench.ts`. Resident memory
 * over the run, then threads, sockets and queues once it is quiet again.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, oneOf, readFlags, SEED } from '../flags.ts';
import type { LoadPlan } from './load/load-plan.ts';
import { applyLoad } from './load/load-process.ts';
import { planRequests } from './load/plan-requests.ts';
import { WrongReplyError } from './measure.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say, verdict } from './run-script.ts';
import { textGroupsOf } from './scenario.ts';
import { type BenchTarget, startTarget } from './target/bench-target.ts';
import { holdingsOf, type ProcessHoldings, usageOf } from './target/process-usage.ts';

const FLAGS = {
  requests: count(1_000_000, [100, 1_000_000_000], 'replies to wait for'),
  connections: count(32, [1, 4096], 'requests in flight'),
  format: oneOf(['json', 'msgpack'], 'replies'),
  minutes: count(60, [1, 1440], 'gives up after so long'),
  seed: SEED,
};

/**
 * The first fifth is warm-up: the compiler's code, pools and the heap's own size are still growing.
 */
const WARM_SHARE = 0.2;

/**
 * Memory may drift so far over the last four fifths and still be called flat: the collector lets
 * the heap breathe by some per cent, while a leak of as little as 100 bytes a request would add 80
 * MB.
 */
const DRIFT_MAX = 0.05;

/** Enough for every connection that the server opens by itself to be open. */
const WARM_REQUESTS = 2000;

/** When the load is gone, idle sockets and the last timers have so long to go, too. */
const QUIET_MS = 5000;

interface Sample {
  readonly replyCount: number;
  readonly residentBytes: number;
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const run = {
    requestCount: flags.requests,
    connectionCount: flags.connections,
    replyKind: flags.format,
    msMax: 60_000 * flags.minutes,
    seed: flags.seed,
  };
  const settings = { SERVER_TIMING: 'off' };
  const target = await startTarget('trivial', { modelsDir: MODELS_DIR, settings });
  try {
    const found = await soak(target, run);
    console.log(report(found));
    await saveRun('soak', run, found);
  } finally {
    await target.stop();
  }
}

interface Found {
  readonly samples: readonly Sample[];
  readonly measuredMs: number;
  readonly before: ProcessHoldings | undefined;
  readonly after: ProcessHoldings | undefined;
  /** What the server itself says it still holds; all zero when nothing is left. */
  readonly queue: Readonly<Record<string, number>>;
}

async function soak(
  target: BenchTarget,
  run: {
    requestCount: number;
    connectionCount: number;
    replyKind: 'json' | 'msgpack';
    msMax: number;
    seed: number;
  },
): Promise<Found> {
  const { replyKind, seed, requestCount, connectionCount, msMax } = run;
  const mix = [{ length: 'short', textsPerRequest: 1, requestCount: 256 }] as const;
  const check = { idsOf: loadReferenceIds(target.modelId), expected: target.expected };
  const requests = await planRequests(textGroupsOf(mix, seed), { ...target, replyKind }, check);
  const [pid] = target.pids.server;
  const { hostname, port } = new URL(target.url);
  const plan: LoadPlan = {
    hostname,
    port: Number(port),
    requests,
    replyKind,
    tolerance: target.expected.tolerance,
    arrival: { kind: 'closed', connectionCount },
    warmUpMs: 0,
    measureMs: msMax,
    requestCountMax: requestCount,
    connectionCountMax: connectionCount,
    timeoutMs: 30_000,
    seed,
    watchedPids: target.pids,
    threadsOfPid: undefined,
  };
  // Threads and sockets are counted from here: the pool of connections to Triton and the compiler's
  // threads are up by then.
  await applyLoad({ ...plan, requestCountMax: WARM_REQUESTS });
  await quiet();
  const before = holdingsOf(pid);
  const samples: Sample[] = [];
  const result = await applyLoad(plan, ({ replyCount, elapsedMs }) => {
    const { residentBytes } = usageOf([pid]);
    samples.push({ replyCount, residentBytes });
    if (samples.length % 10 !== 0) return;
    const rate = (replyCount * 1000) / elapsedMs;
    say(`${replyCount} replies, ${megabytes(residentBytes)} MB, ${short(rate)} requests/s`);
  });
  const { wrong, failed } = result;
  if (wrong.count + failed.count > 0) {
    throw new WrongReplyError(
      `${wrong.count} wrong, ${failed.count} failed: ${[...wrong.samples, ...failed.samples].join('; ')}`,
    );
  }
  if (result.requestCount < requestCount) {
    throw new WrongReplyError(`only ${result.requestCount} replies came within ${msMax} ms`);
  }
  await quiet();
  // Before the question below, whose own connection would count.
  const after = holdingsOf(pid);
  const { queue } = (await (await fetch(`${target.url}/info`, { keepalive: false })).json()) as {
    queue: Record<string, number>;
  };
  return { samples, measuredMs: result.measuredMs, before, after, queue };
}

function quiet(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, QUIET_MS);
  });
}

function report({ samples, measuredMs, before, after, queue }: Found): string {
  const last = samples.at(-1);
  if (last === undefined) return 'too short for a sample: ask for more requests';
  const late = samples.filter(({ replyCount }) => replyCount >= WARM_SHARE * last.replyCount);
  const rows = Array.from({ length: 11 }, (_, tenth) => {
    const at = samples.find(({ replyCount }) => replyCount >= (tenth / 10) * last.replyCount);
    return [String(at?.replyCount ?? 0), megabytes(at?.residentBytes ?? 0)];
  });
  const drift = slope(late) * (1 - WARM_SHARE) * last.replyCount;
  const mean = late.reduce((sum, { residentBytes }) => sum + residentBytes, 0) / late.length;
  const left = Object.entries(queue).filter(([, count]) => count > 0);
  const threads = `${before?.threadCount} → ${after?.threadCount}`;
  const sockets = `${before?.socketCount} → ${after?.socketCount}`;
  const isSame =
    before !== undefined &&
    after !== undefined &&
    after.threadCount <= before.threadCount &&
    after.socketCount <= before.socketCount;
  return [
    textTable(['replies', 'resident MB'], rows),
    `${last.replyCount} replies in ${short(measuredMs / 1000)} s`,
    verdict(
      `memory over the last 80 %: ${megabytes(drift)} MB of drift on a mean of ${megabytes(mean)} MB ` +
        `(${short(drift / ((1 - WARM_SHARE) * last.replyCount))} bytes a request)`,
      `within ${100 * DRIFT_MAX} %`,
      Math.abs(drift) <= DRIFT_MAX * mean || drift < 0,
    ),
    verdict(`threads ${threads}, sockets ${sockets} before and after`, 'no more', isSame),
    verdict(
      `left in queues: ${left.map(([name]) => name).join(', ') || 'nothing'}`,
      'nothing',
      left.length === 0,
    ),
  ].join('\n');
}

/** Least-squares growth of resident memory, in bytes a reply. */
function slope(samples: readonly Sample[]): number {
  const count = samples.length;
  const meanX = samples.reduce((sum, { replyCount }) => sum + replyCount, 0) / count;
  const meanY = samples.reduce((sum, { residentBytes }) => sum + residentBytes, 0) / count;
  let covariance = 0;
  let variance = 0;
  for (const { replyCount, residentBytes } of samples) {
    covariance += (replyCount - meanX) * (residentBytes - meanY);
    variance += (replyCount - meanX) ** 2;
  }
  return variance === 0 ? 0 : covariance / variance;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

await runScript('soak-bench', main);
