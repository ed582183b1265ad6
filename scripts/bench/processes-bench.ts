/**
 * What more than one server process brings: `bun scripts/bench/processes-bench.ts`. Short queries
 * in a closed load over a model that costs nothing, with 1 and N processes in turns, so that what
 * the machine does beside falls on both.
 */
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { count, oneOf, ROUNDS, readFlags, SEED, secondsFlag } from '../flags.ts';
import { medianOf } from './load/latencies.ts';
import { planRequests } from './load/plan-requests.ts';
import { type MeasureTimes, measureLoad } from './measure.ts';
import { cpuUsPerRequest, type LoadPoint, requestsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { MODELS_DIR } from './run-scenario.ts';
import { runScript, say } from './run-script.ts';
import { textGroupsOf } from './scenario.ts';
import { startTarget } from './target/bench-target.ts';

const FLAGS = {
  processes: count(2, [2, 64], 'compared with 1'),
  connections: count(128, [1, 4096], 'requests in flight'),
  rounds: count(3, [1, 100], ROUNDS.meaning),
  seconds: secondsFlag(8),
  format: oneOf(['json', 'msgpack'], 'replies'),
  seed: SEED,
};

/** The first seconds are the compiler's. */
const WARM_UP_MS = 4000;

interface Run {
  readonly connectionCount: number;
  readonly replyKind: 'json' | 'msgpack';
  readonly times: MeasureTimes;
}

interface Measured {
  readonly processCount: number;
  readonly point: LoadPoint;
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const processCount = flags.processes;
  const roundCount = flags.rounds;
  const run: Run = {
    connectionCount: flags.connections,
    replyKind: flags.format,
    times: {
      warmUpMs: WARM_UP_MS,
      measureMs: 1000 * flags.seconds,
      seed: flags.seed,
    },
  };
  const found: Measured[] = [];
  for (let round = 0; round < roundCount; round++) {
    for (const count of [1, processCount]) found.push(await measured(count, run));
  }
  console.log(report(found));
  await saveRun('processes', { ...run, processCount, roundCount }, found);
}

async function measured(processCount: number, run: Run): Promise<Measured> {
  const { replyKind, times, connectionCount } = run;
  const settings = { SERVER_TIMING: 'off', SERVER_PROCESSES: String(processCount) };
  const target = await startTarget('trivial', { modelsDir: MODELS_DIR, settings });
  try {
    const mix = [{ length: 'short', textsPerRequest: 1, requestCount: 256 }] as const;
    const check = { idsOf: loadReferenceIds(target.modelId), expected: target.expected };
    const groups = textGroupsOf(mix, times.seed);
    const requests = await planRequests(groups, { ...target, replyKind }, check);
    const label = processCount === 1 ? '1 process' : `${processCount} processes`;
    const arrival = { kind: 'closed', connectionCount } as const;
    const point = await measureLoad(target, requests, { label, arrival, replyKind, times });
    say(`${label}: ${short(requestsPerSecond(point))} requests/s`);
    return { processCount, point };
  } finally {
    await target.stop();
  }
}

function report(found: readonly Measured[]): string {
  const rows = found.map(({ processCount, point }) => {
    const { latencies } = point.result;
    return [
      String(processCount),
      short(requestsPerSecond(point)),
      short(latencies.all.p50),
      short(latencies.all.p99),
      short(cpuUsPerRequest(point, 'server')),
      short(cpuUsPerRequest(point, 'triton')),
      short(cpuUsPerRequest(point, 'load')),
      short((point.residentBytes ?? 0) / 1e6),
    ];
  });
  const head = ['processes', 'requests/s', 'p50 ms', 'p99 ms'];
  const cpu = ['server µs', 'triton µs', 'load µs'];
  const counts = [...new Set(found.map(({ processCount }) => processCount))];
  const medians = counts.map((count) => {
    const rates = found
      .filter(({ processCount }) => processCount === count)
      .map(({ point }) => requestsPerSecond(point));
    return `${count}: ${short(medianOf(rates))} requests/s in the middle`;
  });
  return [
    textTable([...head, ...cpu, 'server MB'], rows),
    'processor time is that of one request, in each group of processes',
    ...medians,
  ].join('\n');
}

await runScript('processes-bench', main);
