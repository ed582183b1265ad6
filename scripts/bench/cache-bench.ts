/**
 * Queries that repeat, with the row cache and without: `bun scripts/bench/cache-bench.ts`. Texts
 * are drawn by Zipf's law (exponent 1) from 100,000; Triton takes the time of a GPU.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { deterministicEmbedding } from '../../src/testing/triton/deterministic-embedding.ts';
import { count, ROUNDS, readFlags, SEED, secondsFlag } from './bench-flags.ts';
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

async function main(): Promise<void> {
  const { rounds, seconds, draws, seed } = readFlags(import.meta.path, FLAGS);
  const measureMs = 1000 * seconds;
  const triton = await startBenchTriton(TIMED_MODEL, { maxBatch: 64 });
  const stops = [triton.stop];
  try {
    const contenders: Contender[] = [];
    const texts = zipfTexts(draws, seed);
    for (const cacheBytes of [0, CACHE_BYTES]) {
      const { contender, stop } = await startContender(triton, { cacheBytes, texts });
      contenders.push(contender);
      stops.unshift(stop);
    }
    const times = { warmUpMs: 1000, measureMs, seed };
    const before = await cacheCounts(contenders[1].target.url);
    const turns = await takeTurns(contenders, { rounds, times, connectionCounts: [CONNECTIONS] });
    const after = await cacheCounts(contenders[1].target.url);
    console.log(report(turns, { hit: after.hit - before.hit, miss: after.miss - before.miss }));
    await saveRun('cache-bench', { rounds, draws, ...times }, Object.fromEntries(turns));
  } finally {
    for (const stop of stops) await stop();
  }
}

/** A server over the timed Triton, and checked requests for it. */
async function startContender(
  triton: BenchTriton,
  { cacheBytes, texts }: { cacheBytes: number; texts: readonly string[] },
): Promise<{ contender: Contender; stop: () => Promise<void> }> {
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
  const name = cacheBytes === 0 ? 'no cache' : 'cache';
  say(`planning ${new Set(texts).size} requests: ${name}`);
  const requests = await planned(texts, target);
  return { contender: { name, replyKind: 'msgpack', target, requests }, stop };
}

function report(turns: Turns, { hit, miss }: { hit: number; miss: number }): string {
  const median = (name: string, of: (point: LoadPoint) => number): number =>
    medianOfTurns(turns, turnName(name, CONNECTIONS), of);
  const rows = ['no cache', 'cache'].map((name) => [
    name,
    short(median(name, requestsPerSecond)),
    short(median(name, ({ result }) => result.latencies.all.p50)),
    short(median(name, ({ result }) => result.latencies.all.p99)),
    short(median(name, (point) => cpuUsPerRequest(point, 'server') ?? 0)),
  ]);
  const ratio = median('cache', requestsPerSecond) / median('no cache', requestsPerSecond);
  const wanted = `at least ${RATIO_WANTED}`;
  return [
    textTable(['medians', 'requests/s', 'p50 ms', 'p99 ms', 'server µs'], rows),
    '',
    `hit rate: ${short((100 * hit) / (hit + miss))} %; every reply had the right bits`,
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
): Promise<readonly PlannedRequest[]> {
  const distinct = [...new Set(texts)];
  const check = { idsOf: loadReferenceIds('bge-m3'), expected: target.expected };
  const share = Math.ceil(distinct.length / PLANNERS);
  const parts = await Promise.all(
    Array.from({ length: PLANNERS }, (_, index) => {
      const own = distinct.slice(index * share, (index + 1) * share);
      const groups = own.map((text) => ({ kind: 'short', texts: [text] }));
      return planRequests(groups, { ...target, replyKind: 'msgpack' }, check);
    }),
  );
  const requestOf = new Map(parts.flat().map((request, index) => [distinct[index], request]));
  return texts.flatMap((text) => requestOf.get(text) ?? []);
}

async function cacheCounts(url: string): Promise<{ hit: number; miss: number }> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const countOf = (outcome: string): number =>
    Number(
      new RegExp(`^bge_encoder_cache_texts{outcome="${outcome}"} (\\d+)`, 'm').exec(text)?.[1],
    );
  return { hit: countOf('hit'), miss: countOf('miss') };
}

await runScript('cache-bench', main);
