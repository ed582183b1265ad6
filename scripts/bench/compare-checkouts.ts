/**
 * This checkout against another one: `bun scripts/bench/compare-checkouts.ts --with FOLDER`. The
 * same Triton, the same texts, the same load, in turns; ratios come from medians.
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { BenchUsageError, wholeNumber } from './bench-options.ts';
import {
  type Contender,
  createContender,
  medianOfTurns,
  type Turns,
  takeTurns,
  turnName,
} from './contenders.ts';
import type { ReplyKind } from './load/rows-of-reply.ts';
import { type LoadPoint, requestsPerSecond, textsPerSecond } from './report/bench-report.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say } from './run-script.ts';
import { startBenchTriton } from './target/bench-triton.ts';
import { ROOT, startServerProcess } from './target/server-process.ts';

const HELP = `bun scripts/bench/compare-checkouts.ts --with FOLDER [FLAGS]

  --with FOLDER     another checkout of this repository, set up: its server is the baseline
  --texts N         short texts in each request (64)
  --connections N   connections that send one request after the other; several by commas (8)
  --formats WORDS   replies asked for, by commas: msgpack, json, raw (msgpack)
  --set NAME=VALUE  a setting of this checkout's server alone; may stand several times
  --rounds N        turns of each server and format; medians come of them (5)
  --seconds N       seconds for each turn (3)
  --seed N          texts and their order (1)`;

/** Far above what a short text has. */
const TOKEN_COUNT_MAX = 512;

/** Larger than the batches that a server sends unless told, so that its settings decide. */
const TRITON_BATCH_MAX = 64;

const SIDES = ['baseline', 'this'] as const;
const FORMATS = ['msgpack', 'json', 'raw'] as const;

interface Options {
  readonly folder: string;
  readonly texts: number;
  readonly connectionCounts: readonly number[];
  readonly formats: readonly ReplyKind[];
  readonly settings: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly seconds: number;
  readonly seed: number;
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options === undefined) {
    console.log(HELP);
    return;
  }
  const { seed, rounds, connectionCounts } = options;
  const triton = await startBenchTriton({ kind: 'trivial' }, { maxBatch: TRITON_BATCH_MAX });
  const stops = [triton.stop];
  try {
    const contenders: Contender[] = [];
    for (const side of SIDES) {
      const isThis = side === 'this';
      const root = isThis ? ROOT : options.folder;
      say(`starting the server of ${root}`);
      const service = await startServerProcess({
        root,
        environment: {
          BACKEND: 'triton',
          TRITON_URL: triton.url,
          LOG_LEVEL: 'warn',
          SERVER_TIMING: 'off',
          ...(isThis ? options.settings : {}),
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

/** @throws BenchUsageError */
function readOptions(): Options | undefined {
  const { values } = parseArgs({
    options: {
      with: { type: 'string' },
      texts: { type: 'string', default: '64' },
      connections: { type: 'string', default: '8' },
      formats: { type: 'string', default: 'msgpack' },
      set: { type: 'string', multiple: true, default: [] },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      seed: { type: 'string', default: '1' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return undefined;
  if (values.with === undefined) throw new BenchUsageError('--with FOLDER is missing.');
  return {
    folder: resolve(values.with),
    texts: wholeNumber('--texts', values.texts, [1, 10_000]),
    connectionCounts: values.connections
      .split(',')
      .map((word) => wholeNumber('--connections', word, [1, 1000])),
    formats: values.formats.split(',').map(formatNamed),
    settings: Object.fromEntries(values.set.map(settingNamed)),
    rounds: wholeNumber('--rounds', values.rounds, [1, 100]),
    seconds: wholeNumber('--seconds', values.seconds, [1, 600]),
    seed: wholeNumber('--seed', values.seed, [0, 1_000_000_000]),
  };
}

function formatNamed(word: string): ReplyKind {
  const format = FORMATS.find((known) => known === word);
  if (format !== undefined) return format;
  throw new BenchUsageError(`--formats knows ${FORMATS.join(', ')}, not "${word}"`);
}

function settingNamed(word: string): readonly [string, string] {
  const at = word.indexOf('=');
  if (at > 0) return [word.slice(0, at), word.slice(at + 1)];
  throw new BenchUsageError(`--set must be NAME=VALUE, not "${word}"`);
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
  ['p50 ms', ({ result }) => result.latencies.all.p50],
  ['memory MB', ({ residentBytes }) => (residentBytes ?? 0) / 1e6],
];

function report(turns: Turns, { formats, connectionCounts }: Options): string {
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
      ];
    }),
  );
  return textTable(['medians', ...FIGURES.map(([heading]) => heading)], rows);
}

await runScript('compare-checkouts', main);
