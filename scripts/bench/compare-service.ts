/**
 * Our server against the kind of service that it replaces: `bun scripts/bench/compare-service.ts`.
 * The same Triton, the same texts, the same load, in turns; ratios come from medians.
 */
import { ROUNDS, readFlags, SEED, secondsFlag } from '../flags.ts';
import { createContender, medianOfTurns, type Turns, takeTurns, turnName } from './contenders.ts';
import type { MeasureTimes } from './measure.ts';
import { cpuUsPerRequest, type LoadPoint, requestsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say, verdict } from './run-script.ts';
import { startBenchTriton } from './target/bench-triton.ts';
import { startReplacedService } from './target/replaced-process.ts';
import { startServerProcess } from './target/server-process.ts';

const FLAGS = {
  rounds: ROUNDS,
  seconds: secondsFlag(5),
  seed: SEED,
};

const MORE = `The replaced kind of service stands in scripts/bench/replaced-service: FastAPI and uvicorn with their defaults, the Hugging
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

async function main(): Promise<void> {
  const { rounds, seconds, seed } = readFlags(import.meta.path, FLAGS, MORE);
  const measureMs = 1000 * seconds;
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
    const load = { triton, seed, tokenCountMax: TOKEN_COUNT_MAX, textsPerRequest: 1 };
    const contenders = [
      await createContender('replaced', 'replaced', { ...load, service: replaced }),
      await createContender('ours, JSON', 'json', { ...load, service: ours }),
      await createContender('ours, msgpack', 'msgpack', { ...load, service: ours }),
    ];
    const runs = await takeTurns(contenders, { rounds, times, connectionCounts: CONNECTIONS });
    console.log(report(runs));
    await saveRun('compare-service', { rounds, ...times }, Object.fromEntries(runs));
  } finally {
    for (const stop of stops) await stop();
  }
}

function report(runs: Turns): string {
  const median = (name: string, connections: number, of: (point: LoadPoint) => number): number =>
    medianOfTurns(runs, turnName(name, connections), of);
  const rows = CONNECTIONS.flatMap((connections) =>
    ['replaced', 'ours, JSON', 'ours, msgpack'].map((name) => {
      const rate = median(name, connections, requestsPerSecond);
      const base = median('replaced', connections, requestsPerSecond);
      return [
        turnName(name, connections),
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
        `${turnName(name, connections)}: ${short(ratio)} times`,
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
