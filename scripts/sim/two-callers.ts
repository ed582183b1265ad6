/**
 * One caller sends ten times the queue at once, another asks a query each 100 ms: what the second
 * waits, beside what it waits when it is alone. Triton's model takes a time of its own for a batch;
 * with `--embedded` the real default model computes.
 */
import { startProcess } from '../../src/testing/e2e/start-process.ts';
import { until } from '../../src/testing/until.ts';
import { startBenchTriton } from '../bench/target/bench-triton.ts';
import { amount, count, onOff, readFlags } from '../flags.ts';

const values = readFlags(import.meta.path, {
  rounds: count(3, [1, 100], 'rounds'),
  background: onOff('the burst says of itself that it can wait'),
  embedded: onOff('the default model computes, in place of a Triton that takes a time of its own'),
  'burst-texts': count(10_240, [1, 10_000_000], 'texts of the burst'),
  'call-texts': count(256, [1, 10_000], 'texts of one of its calls'),
  words: count(0, [0, 10_000], 'so many words longer are its texts'),
  'launch-ms': amount(20, [0, 10_000], 'what a batch takes in Triton, whatever is in it'),
  'tokens-per-second': amount(40_000, [1, 1_000_000_000], 'and what its tokens take'),
});
const rounds = values.rounds;

const QUEUE_TEXTS = 1024;
const BURST_TEXTS = values['burst-texts'];
const CALL_TEXTS = values['call-texts'];
const QUERY_EVERY_MS = 100;
const QUIET_QUERIES = 100;

/** Unless told otherwise the burst takes ten seconds: 100 queries of the other caller. */
const MODEL = {
  kind: 'timed',
  launchMs: values['launch-ms'],
  tokensPerSecond: values['tokens-per-second'],
} as const;
const MAX_BATCH = 32;

const triton = values.embedded ? undefined : await startBenchTriton(MODEL, { maxBatch: MAX_BATCH });
const server = await startProcess({
  ...(triton === undefined ? {} : { TRITON_URL: triton.url, MODEL: 'bge-m3' }),
  QUEUE_TEXTS_MAX: String(QUEUE_TEXTS),
  REQUEST_TEXTS_MAX: String(CALL_TEXTS),
  API_KEYS: 'job,person',
  LOG_LEVEL: 'error',
});
const ready = async (): Promise<boolean> => (await fetch(`${server.url}/ready`)).ok;
await until('the server is ready', ready);

const more = ' стороны договорились о порядке'.repeat(Math.ceil(values.words / 4));
let textCount = 0;
const statuses = new Map<string, number>();

async function ask(key: string, count: number): Promise<number> {
  const startMs = performance.now();
  const tail = key === 'job' ? more : '';
  const query = Array.from({ length: count }, () => `договор аренды ${textCount++}${tail}`);
  const reply = await fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key}`,
      accept: 'application/msgpack',
      ...(values.background && key === 'job' ? { 'x-priority': 'background' } : {}),
    },
    body: JSON.stringify({ query }),
  });
  await reply.bytes();
  const name = `${key} ${reply.status}`;
  statuses.set(name, (statuses.get(name) ?? 0) + 1);
  return performance.now() - startMs;
}

/** A query each 100 ms, whatever comes back, until it is told to end. */
async function person(isOver: (asked: number) => boolean): Promise<number[]> {
  const open: Promise<number>[] = [];
  const startMs = performance.now();
  while (!isOver(open.length)) {
    open.push(ask('person', 1));
    await Bun.sleep(startMs + open.length * QUERY_EVERY_MS - performance.now());
  }
  return (await Promise.all(open)).sort((a, b) => a - b);
}

const at = (list: readonly number[], share: number): number =>
  list[Math.floor(share * (list.length - 1))] ?? 0;

const shown = (list: readonly number[]): string =>
  `${at(list, 0.5).toFixed(0)} | ${at(list, 0.99).toFixed(0)}`;

try {
  await person((asked) => asked === 10);
  statuses.clear();
  console.log('| quiet p50, ms | p99 | beside the burst p50 | p99 | p99 in times | burst, s |');
  console.log('| --- | --- | --- | --- | --- | --- |');
  for (let round = 0; round < rounds; round++) {
    const quiet = await person((asked) => asked === QUIET_QUERIES);
    const startMs = performance.now();
    const calls = Array.from({ length: BURST_TEXTS / CALL_TEXTS }, () => ask('job', CALL_TEXTS));
    let burstMs = 0;
    const burst = Promise.all(calls).then(() => {
      burstMs = performance.now() - startMs;
    });
    const beside = await person(() => burstMs > 0);
    await burst;
    const times = at(beside, 0.99) / at(quiet, 0.99);
    const seconds = (burstMs / 1000).toFixed(1);
    console.log(`| ${shown(quiet)} | ${shown(beside)} | ${times.toFixed(2)} | ${seconds} |`);
  }
  console.log([...statuses].map(([name, count]) => `${name}: ${count}`).join(', '));
} finally {
  server.signal('SIGKILL');
  await server.exited;
  await triton?.stop();
}
