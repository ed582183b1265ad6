/**
 * A job of background texts beside queries, over a Triton whose model takes the time of a GPU: `bun
 * scripts/bench/background-bench.ts`. Queries alone, queries with the job, and the job alone, in
 * turns: what the job costs queries, and what it gets of what they leave.
 *
 * Full load are queries at random times, at the rate at which connections that never pause are
 * answered; half load is half of it; a closed load are those connections themselves, so that
 * queries wait for the backend at any time. What queries leave:
 *
 *     left = max(BACKGROUND_SHARE_PERCENT, 1 - busy with queries alone / busy with the job alone)
 *
 * where `busy` is the part of the time in which Triton computes. It is below 1 whatever the load:
 * there are gaps between two batches, which no text can fill.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, listOf, oneOf, ROUNDS, readFlags, SEED, secondsFlag, text } from '../flags.ts';
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

type Load = 'half' | 'full' | 'closed';

const FLAGS = {
  rounds: count(3, [1, 100], ROUNDS.meaning),
  seconds: secondsFlag(8),
  seed: SEED,
  queries: oneOf(['documents', 'short'], 'what is asked for; documents: 5 % of 8,000 tokens'),
  loads: listOf(oneOf<Load>(['half', 'full', 'closed'], 'of queries'), 'half,full'),
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

/**
 * Where the share is all that is left, which is a batch in a second or two, a request of sixteen
 * texts that are dealt with in turn would have no reply within the measured time.
 */
const SHAPES = {
  plenty: { textsPerRequest: 16, connectionCount: 32 },
  little: { textsPerRequest: 1, connectionCount: 128 },
} as const;

type Shape = keyof typeof SHAPES;

function job(shape: Shape): readonly MixPart[] {
  const { textsPerRequest } = SHAPES[shape];
  return [{ length: 'middle', textsPerRequest, requestCount: 384 / textsPerRequest }];
}

/** Some are longer for the same reason. */
const TURNS: Readonly<Record<Load, number>> = { half: 1, full: 2, closed: 2 };
/** Of the server. A turn is shorter than the default wait. */
const SHARE_PERCENT = 2;
const WAIT_MS = 1000;

/** What one turn of all three found. */
interface Turn {
  readonly load: Load;
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

interface Measured {
  readonly point: LoadPoint;
  readonly busyPart: number;
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const { rounds, seconds, seed, queries: mix, loads, connections: connectionCount, delay } = flags;
  const times = { warmUpMs: 2000, measureMs: 1000 * seconds, seed };
  const settings = {
    BACKGROUND_SHARE_PERCENT: String(SHARE_PERCENT),
    BACKGROUND_WAIT_MS: String(WAIT_MS),
    ...(delay === '' ? {} : { BACKGROUND_DELAY_MS: delay }),
  };
  const target = await startTarget('timed', { modelsDir: MODELS_DIR, settings });
  try {
    const queries = await checkedRequests(target, MIXES[mix], seed, []);
    const asJob = (shape: Shape): Promise<readonly PlannedRequest[]> =>
      checkedRequests(target, job(shape), seed, ['X-Priority: background']);
    const jobs = { plenty: await asJob('plenty'), little: await asJob('little') };
    // Short queries at half the rate come one by one, in batches so small that they fill it.
    const half = mix === 'documents' ? 'plenty' : 'little';
    const shapes = { half, full: 'little', closed: 'little' } as const;
    const closed: Arrival = { kind: 'closed', connectionCount };
    const best = await measure(target, queries, closed, { ...times, measureMs: 5000 });
    const fullRate = requestsPerSecond(best.point);
    const arrivals: Readonly<Record<Load, Arrival>> = {
      half: { kind: 'poisson', requestsPerSecond: fullRate / 2 },
      full: { kind: 'poisson', requestsPerSecond: fullRate },
      closed,
    };
    const turns: Turn[] = [];
    for (let round = 1; round <= rounds; round++) {
      const turn = { ...times, seed: seed + round };
      const asked = (load: Load) => ({ ...turn, measureMs: TURNS[load] * turn.measureMs });
      const runJob = (shape: Shape, of: MeasureTimes): Promise<Measured> => {
        const { connectionCount } = SHAPES[shape];
        return measure(target, jobs[shape], { kind: 'closed', connectionCount }, of);
      };
      const jobAlone = await runJob('plenty', turn);
      for (const load of loads) {
        const alone = await measure(target, queries, arrivals[load], asked(load));
        const [beside, jobBeside] = await Promise.all([
          measure(target, queries, arrivals[load], asked(load)),
          runJob(shapes[load], asked(load)),
        ]);
        turns.push(turnOf(load, { alone, beside, jobAlone, jobBeside }));
        say(rowOf(turns[turns.length - 1]).join('  '));
      }
    }
    turns.sort((a, b) => loads.indexOf(a.load) - loads.indexOf(b.load));
    console.log(reportOf(turns));
    await saveRun('background', { ...flags, ...times }, turns);
  } finally {
    await target.stop();
  }
}

function turnOf(
  load: Load,
  { alone, beside, jobAlone, jobBeside }: Readonly<Record<string, Measured>>,
): Turn {
  return {
    load,
    ...{ p99: queryMs(alone.point, 'p99'), p99Beside: queryMs(beside.point, 'p99') },
    ...{ p50: queryMs(alone.point, 'p50'), p50Beside: queryMs(beside.point, 'p50') },
    queriesPerSecond: requestsPerSecond(alone.point),
    queriesPerSecondBeside: requestsPerSecond(beside.point),
    leftPart: Math.max(SHARE_PERCENT / 100, 1 - alone.busyPart / jobAlone.busyPart),
    jobAlone: tokensPerSecond(jobAlone.point),
    jobBeside: tokensPerSecond(jobBeside.point),
  };
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
): Promise<Measured> {
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
  'load',
  ...['queries/s', 'beside', 'p50 ms', 'beside', 'p99 ms', 'beside', 'ratio'],
  ...['left', 'job alone tokens/s', 'beside', 'of what is left'],
];

function rowOf(turn: Turn): string[] {
  const { queriesPerSecond, queriesPerSecondBeside, p50, p50Beside, p99, p99Beside } = turn;
  const { load, leftPart, jobAlone, jobBeside } = turn;
  return [
    load,
    ...[queriesPerSecond, queriesPerSecondBeside, p50, p50Beside, p99, p99Beside].map(short),
    ...[(p99Beside / p99).toFixed(2), `${(100 * leftPart).toFixed(0)} %`],
    ...[short(jobAlone), short(jobBeside), `${(100 * jobPartOf(turn)).toFixed(0)} %`],
  ];
}

/** What the job gets, as a part of what it reaches alone in the time that queries leave. */
function jobPartOf({ leftPart, jobAlone, jobBeside }: Turn): number {
  return jobBeside / (jobAlone * leftPart);
}

function reportOf(turns: readonly Turn[]): string {
  const loads = [...new Set(turns.map(({ load }) => load))];
  return [textTable(HEADINGS, turns.map(rowOf)), ...loads.flatMap(verdictsOn)].join('\n');

  function verdictsOn(load: Load): string[] {
    const own = turns.filter((turn) => turn.load === load);
    const ratio = medianOf(own.map(({ p99, p99Beside }) => p99Beside / p99));
    const part = medianOf(own.map(jobPartOf));
    return [
      verdict(
        `${load} load: p99 of queries beside a job is ${ratio.toFixed(2)} of that without`,
        `at most ${RATIO_WANTED}`,
        ratio <= RATIO_WANTED,
      ),
      verdict(
        `${load} load: the job gets ${(100 * part).toFixed(0)} % of what is left`,
        `at least ${100 * JOB_WANTED} %`,
        part >= JOB_WANTED,
      ),
    ];
  }
}

await runScript('background-bench', main);
