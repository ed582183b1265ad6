/**
 * A job of background texts beside queries, over a Triton whose model takes the time of a GPU: `bun
 * scripts/bench/background-bench.ts`. Queries alone, queries with the job, and the job alone, in
 * turns: what the job costs queries, and what it gets of what they leave.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, oneOf, ROUNDS, readFlags, SEED, secondsFlag, text } from './bench-flags.ts';
import { medianOf } from './load/latencies.ts';
import type { Arrival, PlannedRequest } from './load/load-plan.ts';
import { planRequests } from './load/plan-requests.ts';
import { type MeasureTimes, measureLoad } from './measure.ts';
import { type LoadPoint, requestsPerSecond, tokensPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say, verdict } from './run-script.ts';
import { type MixPart, textGroupsOf } from './scenario.ts';
import { type BenchTarget, startTarget } from './target/bench-target.ts';

const FLAGS = {
  rounds: count(3, [1, 100], ROUNDS.meaning),
  seconds: secondsFlag(8),
  seed: SEED,
  queries: oneOf(['documents', 'short'], 'what is asked for; documents: 5 % of 8,000 tokens'),
  load: oneOf(['half', 'full'], 'of the rate at which connections that never pause are answered'),
  connections: count(64, [1, 512], 'connections that never pause'),
  delay: text('MS', '', 'BACKGROUND_DELAY_MS of the server, unless its default'),
};

/** The 99th percentile of queries beside the job, over that without it. */
const RATIO_WANTED = 1.2;
/** The job's tokens/s over those that it reaches alone in the time that queries leave. */
const JOB_WANTED = 0.9;

const MIXES: Readonly<Record<'documents' | 'short', readonly MixPart[]>> = {
  short: [{ length: 'short', textsPerRequest: 1, requestCount: 256 }],
  documents: [
    { length: 'short', textsPerRequest: 1, requestCount: 190 },
    { length: 'document', textsPerRequest: 1, requestCount: 10 },
  ],
};

const JOB: readonly MixPart[] = [{ length: 'middle', textsPerRequest: 16, requestCount: 24 }];
/** Where little is left, few requests share it, so that whole ones come back within a turn. */
const JOB_CONNECTIONS = { plenty: 32, little: 2 };
/** A turn is shorter than the default. */
const WAIT_MS = '1000';

/** What one turn of all three found. */
interface Turn {
  readonly p99: number;
  readonly p99Beside: number;
  readonly p50: number;
  readonly p50Beside: number;
  readonly queriesPerSecond: number;
  readonly queriesPerSecondBeside: number;
  readonly leftPart: number;
  readonly jobAlone: number;
  readonly jobBeside: number;
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const { rounds, seconds, seed, queries: mix, load, connections: connectionCount, delay } = flags;
  const times = { warmUpMs: 2000, measureMs: 1000 * seconds, seed };
  const settings = {
    BACKGROUND_WAIT_MS: WAIT_MS,
    ...(delay === '' ? {} : { BACKGROUND_DELAY_MS: delay }),
  };
  const target = await startTarget('timed', { modelsDir: MODELS_DIR, settings });
  try {
    const queries = await checkedRequests(target, MIXES[mix], seed, []);
    const job = await checkedRequests(target, JOB, seed, ['X-Priority: background']);
    const closed: Arrival = { kind: 'closed', connectionCount };
    const best = await measure(target, queries, closed, { ...times, measureMs: 5000 });
    const arrival: Arrival =
      load === 'full'
        ? closed
        : { kind: 'poisson', requestsPerSecond: requestsPerSecond(best.point) / 2 };
    const left = load === 'half' && mix === 'documents' ? 'plenty' : 'little';
    const jobArrival: Arrival = { kind: 'closed', connectionCount: JOB_CONNECTIONS[left] };
    const turns: Turn[] = [];
    for (let round = 1; round <= rounds; round++) {
      const turn = { ...times, seed: seed + round };
      const alone = await measure(target, queries, arrival, turn);
      const [beside, jobBeside] = await Promise.all([
        measure(target, queries, arrival, turn),
        measure(target, job, jobArrival, turn),
      ]);
      const jobAlone = await measure(target, job, jobArrival, turn);
      turns.push({
        ...{ p99: queryMs(alone.point, 'p99'), p99Beside: queryMs(beside.point, 'p99') },
        ...{ p50: queryMs(alone.point, 'p50'), p50Beside: queryMs(beside.point, 'p50') },
        queriesPerSecond: requestsPerSecond(alone.point),
        queriesPerSecondBeside: requestsPerSecond(beside.point),
        leftPart: 1 - alone.busyPart,
        jobAlone: tokensPerSecond(jobAlone.point),
        jobBeside: tokensPerSecond(jobBeside.point),
      });
      say(rowOf(turns[turns.length - 1]).join('  '));
    }
    console.log(reportOf(turns));
    await saveRun('background', { ...flags, ...times }, turns);
  } finally {
    await target.stop();
  }
}

function checkedRequests(
  target: BenchTarget,
  mix: readonly MixPart[],
  seed: number,
  headers: readonly string[],
): Promise<readonly PlannedRequest[]> {
  const groups = textGroupsOf(mix, seed);
  say(`checking a reply to each of ${groups.length} requests`);
  const check = { idsOf: loadReferenceIds(target.modelId), expected: target.expected };
  return planRequests(groups, { ...target, replyKind: 'msgpack', headers }, check);
}

/** Puts a load on the server, and looks how long Triton computed while it was measured. */
async function measure(
  target: BenchTarget,
  requests: readonly PlannedRequest[],
  arrival: Arrival,
  times: MeasureTimes,
): Promise<{ point: LoadPoint; busyPart: number }> {
  const [point, busyPart] = await Promise.all([
    measureLoad(target, requests, { label: arrival.kind, arrival, replyKind: 'msgpack', times }),
    busyPartOf(target, times),
  ]);
  return { point, busyPart };
}

async function busyPartOf(target: BenchTarget, times: MeasureTimes): Promise<number> {
  await Bun.sleep(times.warmUpMs);
  const [startMs, before] = [performance.now(), await target.statistics()];
  await Bun.sleep(times.measureMs);
  const [endMs, after] = [performance.now(), await target.statistics()];
  return ((after?.computeMs ?? 0) - (before?.computeMs ?? 0)) / (endMs - startMs);
}

function queryMs({ result }: LoadPoint, percentile: 'p50' | 'p99'): number {
  return result.latencies.short[percentile];
}

const HEADINGS = [
  ...['queries/s', 'beside', 'p50 ms', 'beside', 'p99 ms', 'beside', 'ratio'],
  ...['left', 'job alone tokens/s', 'beside', 'of what is left'],
];

function rowOf(turn: Turn): string[] {
  const { queriesPerSecond, queriesPerSecondBeside, p50, p50Beside, p99, p99Beside } = turn;
  const { leftPart, jobAlone, jobBeside } = turn;
  return [
    ...[queriesPerSecond, queriesPerSecondBeside, p50, p50Beside, p99, p99Beside].map(short),
    ...[(p99Beside / p99).toFixed(2), `${(100 * leftPart).toFixed(0)} %`],
    ...[short(jobAlone), short(jobBeside), `${(100 * jobPartOf(turn)).toFixed(0)} %`],
  ];
}

/** What the job gets, as a part of what it reaches alone in the time that queries leave. */
function jobPartOf({ leftPart, jobAlone, jobBeside }: Turn): number {
  return jobBeside / (jobAlone * Math.max(leftPart, 0.01));
}

function reportOf(turns: readonly Turn[]): string {
  const ratio = medianOf(turns.map(({ p99, p99Beside }) => p99Beside / p99));
  const part = medianOf(turns.map(jobPartOf));
  return [
    textTable(HEADINGS, turns.map(rowOf)),
    verdict(
      `p99 of queries beside a job: ${ratio.toFixed(2)} of that without`,
      `at most ${RATIO_WANTED}`,
      ratio <= RATIO_WANTED,
    ),
    verdict(
      `the job gets ${(100 * part).toFixed(0)} % of what is left`,
      `at least ${100 * JOB_WANTED} %`,
      part >= JOB_WANTED,
    ),
  ].join('\n');
}

await runScript('background-bench', main);
