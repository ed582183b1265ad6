/**
 * This checkout against another one: `bun scripts/bench/compare-checkouts.ts --with FOLDER`. The
 * same Triton, the same texts, the same load, in turns; ratios come from medians.
 */
import {
  BASELINE,
  count,
  listOf,
  oneOf,
  ROUNDS,
  readFlags,
  SEED,
  SETTINGS,
  secondsFlag,
} from '../flags.ts';
import {
  type Contender,
  createContender,
  medianOfTurns,
  type Turns,
  takeTurns,
  turnName,
} from './contenders.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import {
  type LoadPoint,
  meanBatch,
  requestsPerSecond,
  textsPerSecond,
} from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say } from './run-script.ts';
import { startBenchTriton } from './target/bench-triton.ts';
import { ROOT, startServerProcess } from './target/server-process.ts';

/** Far above what a short text has. */
const TOKEN_COUNT_MAX = 512;

/** Larger than the batches that a server sends unless told, so that its settings decide. */
const TRITON_BATCH_MAX = 64;

const SIDES = ['baseline', 'this'] as const;
const FORMATS = ['msgpack', 'json', 'raw'] as const;

const FLAGS = {
  with: BASELINE,
  texts: count(64, [1, 10_000], 'short texts in each request'),
  connections: listOf(count(8, [1, 1000], 'connections that send one request after the other')),
  formats: listOf(oneOf(FORMATS, 'replies asked for')),
  set: SETTINGS,
  rounds: ROUNDS,
  seconds: secondsFlag(3),
  seed: SEED,
};

type Options = ReturnType<typeof readFlags<typeof FLAGS>>;

async function main(): Promise<void> {
  const options = readFlags(import.meta.path, FLAGS);
  const { seed, rounds, connections: connectionCounts } = options;
  const triton = await startBenchTriton({ kind: 'trivial' }, { maxBatch: TRITON_BATCH_MAX });
  const stops = [triton.stop];
  try {
    const contenders: Contender[] = [];
    for (const side of SIDES) {
      const isThis = side === 'this';
      const root = isThis ? ROOT : options.with;
      say(`starting the server of ${root}`);
      const service = await startServerProcess({
        root,
        environment: {
          BACKEND: 'triton',
          TRITON_URL: triton.url,
          LOG_LEVEL: 'warn',
          SERVER_TIMING: 'off',
          ...(isThis ? options.set : {}),
        },
      });
      stops.unshift(service.stop);
      const load = { service, triton, seed, tokenCountMax: TOKEN_COUNT_MAX };
      const texts = { textsPerRequest: options.texts };
      for (const format of options.formats) {
        const name = nameOf(side, format);
        contenders.push(await createContender(name, format, { ...load, ...texts }));
      }
    }
    const times = { warmUpMs: 1000, measureMs: 1000 * options.seconds, seed };
    const turns = await takeTurns(contenders, { rounds, times, connectionCounts });
    console.log(report(turns, options));
    await saveRun('compare-checkouts', { ...options }, Object.fromEntries(turns));
  } finally {
    for (const stop of stops) await stop();
  }
}

function nameOf(side: (typeof SIDES)[number], format: ReplyKind): string {
  return `${side}, ${format}`;
}

/** Processor time of a process for each text, in µs. */
function cpuUsPerText({ result }: LoadPoint, process: string): number {
  return ((result.cpuMs[process] ?? 0) * 1000) / Math.max(1, result.textCount);
}

const FIGURES: readonly (readonly [heading: string, of: (point: LoadPoint) => number])[] = [
  ['requests/s', requestsPerSecond],
  ['texts/s', textsPerSecond],
  ['server µs/text', (point) => cpuUsPerText(point, 'server')],
  ['Triton µs/text', (point) => cpuUsPerText(point, 'triton')],
  ['texts a batch', (point) => meanBatch(point) ?? 0],
  ['p50 ms', ({ result }) => result.latencies.all.p50],
  ['memory MB', ({ residentBytes }) => (residentBytes ?? 0) / 1e6],
];

function report(turns: Turns, { formats, connections: connectionCounts }: Options): string {
  const rows = connectionCounts.flatMap((connections) =>
    formats.flatMap((format) => {
      const [baseline, ours] = SIDES.map((side) => {
        const name = turnName(nameOf(side, format), connections);
        return FIGURES.map(([, of]) => medianOfTurns(turns, name, of));
      });
      const ratios = ours.map((value, at) => `${short(value / baseline[at])} ×`);
      return [
        [turnName(nameOf('baseline', format), connections), ...baseline.map(short)],
        [turnName(nameOf('this', format), connections), ...ours.map(short)],
        ['  ratio', ...ratios],
        ['  each round', ...pairsOf(turns, format, connections)],
      ];
    }),
  );
  return textTable(['medians', ...FIGURES.map(([heading]) => heading)], rows);
}

/** The ratio of requests/s in each round: a machine that others use shows in their spread. */
function pairsOf(turns: Turns, format: ReplyKind, connections: number): readonly string[] {
  const [baseline, ours] = SIDES.map((side) =>
    (turns.get(turnName(nameOf(side, format), connections)) ?? []).map(requestsPerSecond),
  );
  return ours.map((value, at) => short(value / baseline[at]));
}

await runScript('compare-checkouts', main);
