/**
 * Queries that repeat: each computed (`x-cache: bypass`), equal ones in flight coalesced, and with
 * the row cache, too. `bun scripts/bench/cache-bench.ts`. Texts are drawn by Zipf's law from
 * 100,000 (exponent 1); Triton takes the time of a GPU.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { deterministicEmbedding } from '../../src/testing/triton/deterministic-embedding.ts';
import { count, ROUNDS, readFlags, SEED, secondsFlag } from '../flags.ts';
import { benchTexts } from './bench-texts.ts';
import { type Contender, medianOfTurns, type Turns, takeTurns, turnName } from './contenders.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { planRequests } from './load/plan-requests.ts';
import { cpuUsPerRequest, type LoadPoint, requestsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say, verdict } from './run-script.ts';
import { type BenchTarget, TIMED_MODEL } from './target/bench-target.ts';
import { type BenchTriton, startBenchTriton, TRITON_DIMENSION } from './target/bench-triton.ts';
import { processTree } from './target/process-usage.ts';
import { startServerProcess } from './target/server-process.ts';

const FLAGS = {
  rounds: ROUNDS,
  seconds: secondsFlag(4),
  draws: count(12_000, [100, 1_000_000], 'requests that are drawn; the load picks among them'),
  seed: SEED,
};

const TEXT_COUNT = 100_000;
const CONNECTIONS = 64;
const CACHE_BYTES = 67_108_864;
const TOKEN_COUNT_MAX = 512;
/** Requests are planned side by side: Triton takes its time for each. */
const PLANNERS = 64;
const RATIO_WANTED = 2;

/** What is measured: a server's cache, and what its requests say of it. */
const KINDS = [
  { name: 'each computed', cacheBytes: 0, headers: ['x-cache: bypass'] },
  { name: 'coalesced', cacheBytes: 0, headers: [] },
  { name: 'cache', cacheBytes: CACHE_BYTES, headers: [] },
] as const;

async function main(): Promise<void> {
  const { rounds, seconds, draws, seed } = readFlags(import.meta.path, FLAGS);
  const measureMs = 1000 * seconds;
  const triton = await startBenchTriton(TIMED_MODEL, { maxBatch: 64 });
  const stops = [triton.stop];
  try {
    const contenders: Contender[] = [];
    const texts = zipfTexts(draws, seed);
    for (const kind of KINDS) {
      const { contender, stop } = await startContender(triton, { ...kind, texts });
      contenders.push(contender);
      stops.unshift(stop);
    }
    const times = { warmUpMs: 1000, measureMs, seed };
    const counted = contenders.map(({ target }) => target.url);
    const before = await Promise.all(counted.map(countsOf));
    const turns = await takeTurns(contenders, { rounds, times, connectionCounts: [CONNECTIONS] });
    const after = await Promise.all(counted.map(countsOf));
    const shares = KINDS.map((_, at) => savedShare(before[at], after[at]));
    console.log(report(turns, shares));
    await saveRun('cache-bench', { rounds, draws, ...times }, Object.fromEntries(turns));
  } finally {
    for (const stop of stops) await stop();
  }
}

/** A server over the timed Triton, and checked requests for it. */
async function startContender(
  triton: BenchTriton,
  of: { name: string; cacheBytes: number; headers: readonly string[]; texts: readonly string[] },
): Promise<{ contender: Contender; stop: () => Promise<void> }> {
  const { name, cacheBytes, headers, texts } = of;
  const { url, pid, stop } = await startServerProcess({
    environment: {
      BACKEND: 'triton',
      TRITON_URL: triton.url,
      LOG_LEVEL: 'warn',
      SERVER_TIMING: 'off',
      CACHE_BYTES: String(cacheBytes),
    },
  });
  const target: BenchTarget = {
    kind: 'timed',
    url,
    modelId: 'bge-m3',
    prefix: '',
    tokenCountMax: TOKEN_COUNT_MAX,
    expected: { rowOf: (ids) => deterministicEmbedding(ids, TRITON_DIMENSION), tolerance: 0 },
    pids: { server: processTree(pid), triton: processTree(triton.pid) },
    statistics: triton.statistics,
    log: () => '',
    stop: async () => undefined,
  };
  say(`planning ${new Set(texts).size} requests: ${name}`);
  const requests = await planned(texts, target, headers);
  return { contender: { name, replyKind: 'msgpack', target, requests }, stop };
}

/** @param shares of the texts of each kind that were not computed for themselves. */
function report(turns: Turns, shares: readonly number[]): string {
  const median = (name: string, of: (point: LoadPoint) => number): number =>
    medianOfTurns(turns, turnName(name, CONNECTIONS), of);
  const rows = KINDS.map(({ name }, at) => [
    name,
    short(median(name, requestsPerSecond)),
    short(median(name, ({ result }) => result.latencies.all.p50)),
    short(median(name, ({ result }) => result.latencies.all.p99)),
    short(median(name, (point) => cpuUsPerRequest(point, 'server') ?? 0)),
    short(100 * shares[at]),
  ]);
  const computed = median(KINDS[0].name, requestsPerSecond);
  const ratio = median('cache', requestsPerSecond) / computed;
  const wanted = `at least ${RATIO_WANTED}`;
  const head = ['medians', 'requests/s', 'p50 ms', 'p99 ms', 'server µs', 'saved %'];
  return [
    textTable(head, rows),
    '',
    'every reply had the right bits',
    verdict(`${short(ratio)} times the requests/s`, wanted, ratio >= RATIO_WANTED),
  ].join('\n');
}

/** Texts of which the k-th most frequent comes with a chance in proportion to 1 / k. */
function zipfTexts(draws: number, seed: number): readonly string[] {
  const texts = benchTexts({ length: 'short', count: TEXT_COUNT, seed });
  const random = seededRandom(seed);
  const upTo = new Float64Array(TEXT_COUNT);
  let sum = 0;
  for (let rank = 1; rank <= TEXT_COUNT; rank++) {
    sum += 1 / rank;
    upTo[rank - 1] = sum;
  }
  return Array.from({ length: draws }, () => {
    const point = (random.below(1_000_000_000) / 1_000_000_000) * sum;
    let [low, high] = [0, TEXT_COUNT - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (upTo[middle] > point) high = middle;
      else low = middle + 1;
    }
    return texts[low];
  });
}

/** One planned request for each different text, as often in the list as it was drawn. */
async function planned(
  texts: readonly string[],
  target: BenchTarget,
  headers: readonly string[],
): Promise<readonly PlannedRequest[]> {
  const distinct = [...new Set(texts)];
  const check = { idsOf: loadReferenceIds('bge-m3'), expected: target.expected };
  const share = Math.ceil(distinct.length / PLANNERS);
  const parts = await Promise.all(
    Array.from({ length: PLANNERS }, (_, index) => {
      const own = distinct.slice(index * share, (index + 1) * share);
      const groups = own.map((text) => ({ kind: 'short', texts: [text] }));
      return planRequests(groups, { ...target, headers, replyKind: 'msgpack' }, check);
    }),
  );
  const requestOf = new Map(parts.flat().map((request, index) => [distinct[index], request]));
  return texts.flatMap((text) => requestOf.get(text) ?? []);
}

/** Texts so far, and those of them whose rows were known or came with an equal one's. */
async function countsOf(url: string): Promise<{ texts: number; saved: number }> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const numberOf = (metric: string): number =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${metric} `))
        ?.split(' ')[1] ?? 0,
    );
  const known = numberOf('bge_encoder_cache_texts_total{outcome="hit"}');
  const coalesced = numberOf('bge_encoder_coalesced_texts_total');
  return { texts: numberOf('bge_encoder_texts_total'), saved: known + coalesced };
}

function savedShare(
  before: { texts: number; saved: number },
  after: { texts: number; saved: number },
): number {
  return (after.saved - before.saved) / (after.texts - before.texts);
}

await runScript('cache-bench', main);
