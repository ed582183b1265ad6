/**
 * Our server against the kind of service that it replaces: `bun scripts/bench/compare-service.ts`.
 * The same Triton, the same texts, the same load, in turns; ratios come from medians.
 */
import { parseArgs } from 'node:util';
import { loadReferenceIds } from '../../src/testing/reference-ids.ts';
import { trivialEmbedding } from '../../src/testing/triton/deterministic-embedding.ts';
import { wholeNumber } from './bench-options.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { type ExpectedRows, planRequests } from './load/plan-requests.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import { type MeasureTimes, measureLoad } from './measure.ts';
import { cpuUsPerRequest, type LoadPoint, requestsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say, verdict } from './run-script.ts';
import { textGroupsOf } from './scenario.ts';
import type { BenchTarget } from './target/bench-target.ts';
import { startBenchTriton, TRITON_DIMENSION } from './target/bench-triton.ts';
import { processTree } from './target/process-usage.ts';
import { startReplacedService } from './target/replaced-process.ts';
import { startServerProcess } from './target/server-process.ts';

const HELP = `bun scripts/bench/compare-service.ts [FLAGS]

  --rounds N     turns of each service under each load; medians come of them (5)
  --seconds N    seconds for each turn (5)
  --seed N       texts and their order (1)

The replaced kind of service stands in scripts/bench/replaced-service: FastAPI and uvicorn with their defaults, the Hugging
Face tokenizer padding to 512, aiohttp with JSON to Triton. Triton joins its single texts. Its Python packages are
installed to .tools/bench-venv the first time.`;

/** Both services truncate no text of this load; the replaced one would at 512. */
const TOKEN_COUNT_MAX = 512;

const CONNECTIONS = [1, 32, 128] as const;

/**
 * What is asked for: requests a second as a multiple of the replaced service's, at 32 and 128
 * connections.
 */
const RATIO_WANTED = { json: 25, msgpack: 45 } as const;

/** And the median latency at one connection as a share of its. */
const LATENCY_SHARE_WANTED = 0.5;

const EXPECTED: ExpectedRows = {
  rowOf: (ids) => trivialEmbedding(ids, TRITON_DIMENSION),
  tolerance: 0,
};

interface Contender {
  readonly name: string;
  readonly replyKind: ReplyKind;
  readonly target: BenchTarget;
  readonly requests: readonly PlannedRequest[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '5' },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const rounds = wholeNumber('--rounds', values.rounds, [1, 100]);
  const measureMs = 1000 * wholeNumber('--seconds', values.seconds, [1, 600]);
  const seed = wholeNumber('--seed', values.seed, [0, 1_000_000_000]);
  const times: MeasureTimes = { warmUpMs: 2000, measureMs, seed };
  const triton = await startBenchTriton({ kind: 'trivial' }, { maxBatch: 64, joins: true });
  const stops = [triton.stop];
  try {
    say('starting the replaced kind of service');
    const replaced = await startReplacedService(triton.url);
    stops.unshift(replaced.stop);
    const ours = await startServerProcess({
      environment: {
        BACKEND: 'triton',
        TRITON_URL: triton.url,
        LOG_LEVEL: 'warn',
        SERVER_TIMING: 'off',
      },
    });
    stops.unshift(ours.stop);
    const target = { triton, seed };
    const contenders = [
      await contender('replaced', 'replaced', { ...target, service: replaced }),
      await contender('ours, JSON', 'json', { ...target, service: ours }),
      await contender('ours, msgpack', 'msgpack', { ...target, service: ours }),
    ];
    const runs = await takeTurns(contenders, { rounds, times });
    console.log(report(runs));
    await saveRun('compare-service', { rounds, ...times }, Object.fromEntries(runs));
  } finally {
    for (const stop of stops) await stop();
  }
}

/** A service and checked requests for it. */
async function contender(
  name: string,
  replyKind: ReplyKind,
  on: {
    service: { url: string; pid: number };
    triton: Awaited<ReturnType<typeof startBenchTriton>>;
    seed: number;
  },
): Promise<Contender> {
  const { service, triton, seed } = on;
  const target: BenchTarget = {
    kind: 'trivial',
    url: service.url,
    modelId: 'bge-m3',
    prefix: '',
    tokenCountMax: TOKEN_COUNT_MAX,
    expected: EXPECTED,
    pids: { server: processTree(service.pid), triton: processTree(triton.pid) },
    statistics: triton.statistics,
    log: () => '',
    stop: async () => undefined,
  };
  const groups = textGroupsOf([{ length: 'short', textsPerRequest: 1, requestCount: 256 }], seed);
  const requests = await planRequests(
    groups,
    { ...target, replyKind },
    { idsOf: loadReferenceIds('bge-m3'), expected: EXPECTED },
  );
  return { name, replyKind, target, requests };
}

type Runs = ReadonlyMap<string, readonly LoadPoint[]>;

function keyOf(name: string, connectionCount: number): string {
  return `${name} @ ${connectionCount}`;
}

/**
 * Each round lets every service run under every load, one after the other: what disturbs one
 * disturbs all.
 */
async function takeTurns(
  contenders: readonly Contender[],
  { rounds, times }: { rounds: number; times: MeasureTimes },
): Promise<Runs> {
  const runs = new Map<string, LoadPoint[]>();
  for (let round = 1; round <= rounds; round++) {
    for (const connectionCount of CONNECTIONS) {
      for (const { name, replyKind, target, requests } of contenders) {
        const label = keyOf(name, connectionCount);
        const arrival = { kind: 'closed', connectionCount } as const;
        const point = await measureLoad(target, requests, { label, arrival, replyKind, times });
        say(`round ${round}: ${label}: ${short(requestsPerSecond(point))} requests/s`);
        runs.set(label, [...(runs.get(label) ?? []), point]);
      }
    }
  }
  return runs;
}

function report(runs: Runs): string {
  const median = (name: string, connections: number, of: (point: LoadPoint) => number): number =>
    medianOf((runs.get(keyOf(name, connections)) ?? []).map(of));
  const rows = CONNECTIONS.flatMap((connections) =>
    ['replaced', 'ours, JSON', 'ours, msgpack'].map((name) => {
      const rate = median(name, connections, requestsPerSecond);
      const base = median('replaced', connections, requestsPerSecond);
      return [
        keyOf(name, connections),
        short(rate),
        `${short(rate / base)} ×`,
        short(median(name, connections, ({ result }) => result.latencies.all.p50)),
        short(median(name, connections, ({ result }) => result.latencies.all.p99)),
        short(median(name, connections, (point) => cpuUsPerRequest(point, 'server') ?? 0)),
        short(median(name, connections, (point) => cpuUsPerRequest(point, 'triton') ?? 0)),
      ];
    }),
  );
  const headings = [
    'medians',
    'requests/s',
    'ratio',
    'p50 ms',
    'p99 ms',
    'service µs',
    'Triton µs',
  ];
  const verdicts = [32, 128].flatMap((connections) => {
    const base = median('replaced', connections, requestsPerSecond);
    return (['json', 'msgpack'] as const).map((kind) => {
      const name = kind === 'json' ? 'ours, JSON' : 'ours, msgpack';
      const ratio = median(name, connections, requestsPerSecond) / base;
      return verdict(
        `${keyOf(name, connections)}: ${short(ratio)} times`,
        `at least ${RATIO_WANTED[kind]}`,
        ratio >= RATIO_WANTED[kind],
      );
    });
  });
  const p50 = (name: string): number => median(name, 1, ({ result }) => result.latencies.all.p50);
  const share = p50('ours, JSON') / p50('replaced');
  verdicts.push(
    verdict(
      `median latency at one connection, JSON: ${short(share)} of its`,
      `below ${LATENCY_SHARE_WANTED}`,
      share < LATENCY_SHARE_WANTED,
    ),
  );
  return `${textTable(headings, rows)}\n\n${verdicts.join('\n')}`;
}

await runScript('compare-service', main);
