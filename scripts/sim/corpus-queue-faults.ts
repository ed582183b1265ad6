/**
 * What each fault costs a job of three workers over JetStream: its time beside the undisturbed one,
 * and whether the bytes are the same.
 */
import { rm } from 'node:fs/promises';
import { sleep, systemClock } from '../../src/base/clock.ts';
import {
  bytesOfFolder,
  jsonLines,
  startCorpusStand,
} from '../../src/testing/corpus/corpus-stand.ts';
import { type RunningCommand, startCommand } from '../../src/testing/corpus/kill-run.ts';
import { type RunningNats, startNats } from '../../src/testing/corpus/start-nats.ts';
import { until } from '../../src/testing/until.ts';
import { count, readFlags } from '../flags.ts';
import { createNetworkNamespace, type NetworkNamespace } from './network-namespace.ts';

const values = readFlags(import.meta.path, {
  rounds: count(3, [1, 100], 'jobs with each fault; the median is told'),
});

const TEXT_COUNT = 4000;
const PART_TEXTS = 40;
const LEASE_S = 2;
/** Parts that are committed when the fault comes. */
const FAULT_AT = 20;
/** How long a stop lasts, in ms: longer than a lease. */
const STOP_MS = 3000;

/** A fault: done to the job's three workers, of which the first has begun it, or to the queue. */
type Fault = (job: {
  workers: RunningCommand[];
  nats: RunningNats;
  network: NetworkNamespace;
}) => Promise<void>;

const FAULTS: readonly (readonly [name: string, fault: Fault])[] = [
  ['none', async () => undefined],
  ['a worker killed, none in its place', async ({ workers }) => workers[1]?.kill('SIGKILL')],
  [
    `a worker stopped for ${STOP_MS / 1000} s`,
    async ({ workers }) => {
      workers[1]?.kill('SIGSTOP');
      await sleep(systemClock, STOP_MS);
      workers[1]?.kill('SIGCONT');
    },
  ],
  ['the worker that began the job killed', async ({ workers }) => workers[0]?.kill('SIGKILL')],
  [
    `the queue stopped for ${STOP_MS / 1000} s, as by a partition`,
    async ({ nats }) => {
      nats.signal('SIGSTOP');
      await sleep(systemClock, STOP_MS);
      nats.signal('SIGCONT');
    },
  ],
  [
    `a worker's network cut for ${STOP_MS / 1000} s`,
    async ({ network }) => {
      await network.cut();
      await sleep(systemClock, STOP_MS);
      await network.mend();
    },
  ],
  [
    "a worker's network cut until the job is over",
    async ({ network }) => {
      await network.cut();
    },
  ],
  ['the queue killed and restarted', ({ nats }) => nats.restart({ losesData: false })],
  ['the queue killed, its data lost', ({ nats }) => nats.restart({ losesData: true })],
];

const stand = startCorpusStand();
const nats = await startNats();
// One worker stands in a network of its own; it reaches the queue and the server over one cable.
const network = await createNetworkNamespace();
try {
  const texts = Array.from({ length: TEXT_COUNT }, (_, index) => `статья ${index}`);
  const source = await stand.write('laws.jsonl', jsonLines(texts));
  const parts = ['--part-texts', String(PART_TEXTS), '--request-texts', '10', '--format', 'jsonl'];
  const words = (to: string) => [source, '--to', stand.path(to), '--id', 'id', ...parts];
  await stand.embed([...words('calm'), '--url', stand.server.url]);
  const calm = await bytesOfFolder(stand.path('calm'));
  stand.answer = async () => {
    await sleep(systemClock, 25);
    return undefined;
  };
  const own = ['--queue', nats.url, '--lease', String(LEASE_S), '--url', stand.server.url];
  const [queueFar, serverFar] = [
    await network.reach(nats.url),
    await network.reach(stand.server.url),
  ];
  const ownFar = ['--queue', queueFar, '--lease', String(LEASE_S), '--url', serverFar];
  const run = async (fault: Fault): Promise<number> => {
    const startMs = performance.now();
    const first = startCommand([...words('out'), ...own, '--concurrency', '1']);
    const other = startCommand(['--worker', ...own, '--concurrency', '1']);
    const far = startCommand(['--worker', ...ownFar, '--concurrency', '1'], network);
    const workers = [first, other, far];
    const countParts = async (): Promise<number> =>
      Object.keys(await bytesOfFolder(stand.path('out')).catch(() => ({}))).filter((name) =>
        name.startsWith('part'),
      ).length;
    await until('the job is at work', async () => (await countParts()) >= FAULT_AT);
    await fault({ workers, nats, network });
    await until('every part is there', async () => (await countParts()) >= TEXT_COUNT / PART_TEXTS);
    const seconds = (performance.now() - startMs) / 1000;
    await network.mend();
    for (const { ended } of workers) await ended;
    const bytes = Object.entries(await bytesOfFolder(stand.path('out')));
    const whole = bytes.filter(([name]) => !name.endsWith('.partial'));
    if (!Bun.deepEquals(Object.fromEntries(whole), calm)) throw new Error('the bytes differ');
    await rm(stand.path('out'), { recursive: true });
    return seconds;
  };
  let undisturbed = 0;
  console.log('| fault | time | lost |\n| --- | --- | --- |');
  for (const [name, fault] of FAULTS) {
    const times: number[] = [];
    for (let round = 0; round < values.rounds; round++) times.push(await run(fault));
    const median = times.toSorted((left, right) => left - right)[times.length >> 1] ?? 0;
    if (name === 'none') undisturbed = median;
    console.log(`| ${name} | ${median.toFixed(1)} s | ${(median - undisturbed).toFixed(1)} s |`);
  }
} finally {
  await network.close();
  await stand.close();
  await nats.stop();
}
