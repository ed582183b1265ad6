import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError, wholeNumber } from '../flags.ts';
import type { MeasureTimes } from './measure.ts';
import { SCENARIOS, type Scenario, URL_SCENARIOS } from './scenario.ts';

export const HELP = `bun run bench [FLAGS]

Measures the parts of the server and the whole of it under load, and writes reports/bench-<time>.html and .json.
Servers, Triton and the load each run in a process of their own, on the loopback. Exit status 1: something was wrong, and
there is no report.

  --quick           a short run, about two minutes on two cores: a second a load, few loads; its figures are rough
  --only WORDS      parts to run, comma-separated: micro, and any part of a scenario's name
  --compare FILE    also show the change against an earlier run's .json
  --url URL         measure a server that runs already, instead of starting any; any host
  --profile         the server writes processor and heap profiles of each scenario to reports/ (it is slower then)
  --seconds N       seconds for each load (8; 1 with --quick)
  --seed N          texts, their order and the gaps of Poisson arrival (1)
  --out DIR         where reports go (reports)
  --help            this text

Scenarios: ${SCENARIOS.map(({ name }) => name).join(', ')}
With --url: ${URL_SCENARIOS.map(({ name }) => name).join(', ')}

Single questions, each with its own --help:
  bun scripts/bench/compare-service.ts   against the kind of service that this one replaces
  bun scripts/bench/compare-checkouts.ts against another checkout of this repository
  bun scripts/bench/cache-bench.ts       queries that repeat, with the row cache and without
  bun scripts/bench/scheduling-bench.ts  batches against a clairvoyant schedule; short queries beside long documents
  bun scripts/bench/embedded-bench.ts    the embedded server against bare ONNX Runtime
  bun scripts/bench/client-bench.ts      APIEncoder over a corpus against the bench's own load
  bun scripts/bench/soak-bench.ts        a million requests: memory, threads and sockets
  bun scripts/bench/processes-bench.ts   one server process against several on one port`;

/** What the command line asks for. */
export interface BenchOptions {
  readonly times: MeasureTimes;
  readonly microMs: number;
  readonly hasMicro: boolean;
  readonly scenarios: readonly Scenario[];
  readonly compare: string | undefined;
  readonly url: string | undefined;
  readonly profile: boolean;
  readonly outDir: string;
}

/** @throws UsageError */
export function readBenchOptions(commandLine: readonly string[]): BenchOptions | 'help' {
  const values = parse(commandLine);
  if (values.help) return 'help';
  const { quick, url } = values;
  const seconds = wholeNumber('--seconds', values.seconds ?? (quick ? '1' : '8'), [1, 600]);
  const words = values.only?.split(',').filter((word) => word !== '') ?? [];
  const isWanted = (name: string): boolean =>
    words.length === 0 || words.some((word) => name.includes(word));
  const scenarios = (url === undefined ? SCENARIOS : URL_SCENARIOS).filter(
    ({ name, onlyWhenNamed }) => isWanted(name) && !(onlyWhenNamed === true && words.length === 0),
  );
  const hasMicro = url === undefined && isWanted('micro');
  if (scenarios.length === 0 && !hasMicro) {
    throw new UsageError(`--only ${values.only} names nothing; --help lists what there is.`);
  }
  return {
    times: {
      // The first seconds are the compiler's: the same code is several times faster after them.
      warmUpMs: quick ? 1000 : 4000,
      measureMs: seconds * 1000,
      seed: wholeNumber('--seed', values.seed ?? '1', [0, 1_000_000_000]),
    },
    microMs: quick ? 100 : 1000,
    hasMicro,
    scenarios: quick ? scenarios.map(fewLoads) : scenarios,
    compare: values.compare,
    url,
    profile: values.profile ?? false,
    outDir: values.out ?? join(import.meta.dir, '../../reports'),
  };
}

function parse(commandLine: readonly string[]) {
  try {
    return parseArgs({
      args: [...commandLine],
      options: {
        quick: { type: 'boolean' },
        only: { type: 'string' },
        compare: { type: 'string' },
        url: { type: 'string' },
        profile: { type: 'boolean' },
        seconds: { type: 'string' },
        seed: { type: 'string' },
        out: { type: 'string' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message} (--help explains)`);
  }
}

function fewLoads(scenario: Scenario): Scenario {
  const { connectionCounts, openLoads } = scenario;
  return {
    ...scenario,
    connectionCounts: [connectionCounts[0], connectionCounts[connectionCounts.length - 1]],
    openLoads: openLoads.slice(0, 2),
  };
}
