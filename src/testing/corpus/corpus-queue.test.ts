import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { join } from 'node:path';
import { type JetStreamManager, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { portableClock } from '../../client/cancellation.ts';
import { NatsQueue } from '../../corpus/queue/nats-queue.ts';
import { until } from '../until.ts';
import {
  bytesOfFolder,
  type CorpusStand,
  jsonLines,
  refusal,
  startCorpusStand,
} from './corpus-stand.ts';
import { type RunningCommand, runCommand, startCommand } from './kill-run.ts';
import { type RunningNats, startNats } from './start-nats.ts';

/**
 * A job on a real JetStream, with real workers, against what happens to workers and queues. The
 * bytes are held against those of a run without a queue.
 *
 * Faults that were planted to see these fail: no word while a shard is worked on; a queue that is
 * empty taken for a job that is done; shards of a lost queue not dealt out again. A shard that is
 * acknowledged before its part is committed was planted too, and costs nothing: the sink knows. And
 * a shard that is not given back at SIGTERM, a worker that does not stay; a part that waits for the
 * queue's word.
 *
 * Once seen: a message that came twice and was put off by a whole lease, and the job's end with it;
 * a worker that saw one job's end and took the messages of another one with the same corpus away.
 */

setDefaultTimeout(120_000);

const TEXTS = Array.from(
  { length: 2000 },
  (_, index) => `статья ${index} ${'а'.repeat(index % 37)}`,
);

let nats: RunningNats;
let stand: CorpusStand;
let calm: Record<string, string>;
let workers: RunningCommand[];

beforeAll(async () => {
  nats = await startNats();
});

afterAll(() => nats?.stop());

beforeEach(async () => {
  stand = startCorpusStand();
  workers = [];
  await stand.write('laws.jsonl', jsonLines(TEXTS));
  await stand.embed(['--url', stand.server.url, ...words('calm')]);
  calm = await bytesOfFolder(stand.path('calm'));
  // So that there is a middle in which to disturb: some seconds for three workers.
  stand.answer = async () => {
    for (let turn = 0; turn < 2000; turn++) await new Promise(setImmediate);
    return undefined;
  };
});

afterEach(async () => {
  for (const worker of workers) worker.kill('SIGKILL');
  await Promise.all(workers.map(({ ended }) => ended));
  await stand.close();
});

function words(to: string): string[] {
  const parts = ['--part-texts', '40', '--request-texts', '10', '--concurrency', '2'];
  const source = stand.path('laws.jsonl');
  return [source, '--to', stand.path(to), '--id', 'id', '--format', 'jsonl', ...parts];
}

const queue = (): string[] => ['--queue', nats.url, '--lease', '1', '--url', stand.server.url];

function startWorker(more: readonly string[] = []): RunningCommand {
  const worker = startCommand(['--worker', ...queue(), '--concurrency', '2', ...more]);
  workers.push(worker);
  return worker;
}

function startJob(): RunningCommand {
  const job = startCommand([...words('out'), ...queue()]);
  workers.push(job);
  return job;
}

async function partCount(): Promise<number> {
  const names = Object.keys(await bytesOfFolder(stand.path('out')).catch(() => ({})));
  return names.filter((name) => name.startsWith('part')).length;
}

const partsReach = (count: number): Promise<void> =>
  until(`${count} parts are committed`, async () => (await partCount()) >= count);

/** Asks the queue itself. */
async function asked<Result>(
  ask: (manager: JetStreamManager, connection: NatsConnection) => Promise<Result>,
): Promise<Result> {
  const connection = await connect({ servers: nats.url });
  try {
    return await ask(await jetstreamManager(connection), connection);
  } finally {
    await connection.close();
  }
}

/** The streams of the jobs that are under way. */
function jobStreams(): Promise<string[]> {
  return asked(async ({ streams }) => {
    const names = await Array.fromAsync(streams.names());
    return names.filter((name) => name.startsWith('EMBED_'));
  });
}

async function expectCalmBytes(job: RunningCommand, folder = 'out'): Promise<void> {
  const { status, said } = await job.ended;
  expect(status, said).toBe(0);
  const bytes = await bytesOfFolder(stand.path(folder));
  // What a worker that was killed has begun, and whoever prepares next removes.
  const whole = Object.entries(bytes).filter(([name]) => !name.endsWith('.partial'));
  expect(Object.fromEntries(whole)).toEqual(calm);
}

test('workers share a job, come late, are killed and stopped past their lease', async () => {
  const job = startJob();
  const first = startWorker();
  await partsReach(3);
  first.kill('SIGKILL');
  const second = startWorker();
  const third = startWorker();
  await partsReach(10);
  second.kill('SIGSTOP');
  await partsReach(25);
  second.kill('SIGCONT');
  await expectCalmBytes(job);
  for (const worker of [second, third]) {
    const { status, said } = await worker.ended;
    expect(status, said).toBe(0);
    // Each had its share.
    expect(said).toMatch(/working on job/);
  }
});

test('whoever began it may die, and workers see it to its end', async () => {
  const job = startJob();
  const worker = startWorker();
  await partsReach(5);
  job.kill('SIGKILL');
  await expectCalmBytes(worker);
});

test('a shard that comes twice to whoever works on it holds nobody up', async () => {
  const last = Promise.withResolvers<undefined>();
  stand.answer = (_, texts) =>
    texts.some((text) => text.startsWith(`статья ${TEXTS.length - 1} `)) ? last.promise : undefined;
  const startMs = performance.now();
  // Its lease is a minute.
  const job = startCommand([...words('out'), '--queue', nats.url, '--url', stand.server.url]);
  workers.push(job);
  await partsReach(TEXTS.length / 40 - 1);
  const [stream = ''] = await jobStreams();
  await asked(async (manager, connection) => {
    const subject = `embed.${stream.slice('EMBED_'.length)}.shards`;
    await jetstream(connection).publish(subject, String(TEXTS.length / 40 - 1));
    await until('it has come', async () => {
      const { num_pending: waiting } = await manager.consumers.info(stream, 'workers');
      return waiting === 0;
    });
  });
  last.resolve(undefined);
  await expectCalmBytes(job);
  expect(performance.now() - startMs).toBeLessThan(30_000);
});

test('a part that is done waits for no word of a queue that has none', async () => {
  const { signal } = new AbortController();
  const limits = { leaseMs: 60_000, triesMax: 5, patienceMs: 60_000 };
  const way = { url: nats.url, environment: {}, clock: portableClock, signal };
  const held = await NatsQueue.open({ ...way, ...limits });
  const sink = { isCommitted: async () => false, committed: async () => new Set<number>() };
  const leases = held.leases({ id: 'silent', parts: 3, sink });
  try {
    const [first, second, third] = [await leases.next(), await leases.next(), await leases.next()];
    nats.signal('SIGSTOP');
    const startMs = performance.now();
    await first.value?.done();
    await second.value?.done();
    // A question to the queue would have waited for five seconds.
    expect(performance.now() - startMs).toBeLessThan(2000);
    nats.signal('SIGCONT');
    await held.remove('silent');
    await held.close();
    await third.value?.done();
  } finally {
    nats.signal('SIGCONT');
  }
});

test('two copies of a corpus are two jobs', async () => {
  const jobs = ['out', 'next'].map((folder) => startCommand([...words(folder), ...queue()]));
  workers.push(...jobs);
  await until('both are under way', async () => (await jobStreams()).length === 2);
  for (const [index, folder] of ['out', 'next'].entries()) {
    await expectCalmBytes(jobs[index] as RunningCommand, folder);
  }
});

/** What the chart's workers do, and when they are killed at the latest. */
async function chartJobs(): Promise<{ words: string[]; graceMs: number; streams: RegExp }> {
  const path = join(import.meta.dir, '../../../scripts/deploy/helm/bge-m3-encoder/values.yaml');
  const { jobs } = Bun.YAML.parse(await Bun.file(path).text()) as {
    jobs: { command: string[]; graceSeconds: number; autoscaling: { query: string } };
  };
  const name = /stream_name=~"([^"]+)"/.exec(jobs.autoscaling.query)?.[1] ?? '';
  const words = jobs.command.slice(jobs.command.indexOf('embed') + 1);
  return { words, graceMs: jobs.graceSeconds * 1000, streams: new RegExp(`^${name}$`) };
}

test("a worker of the chart gives its shard back at SIGTERM; its jobs' streams are those that scale", async () => {
  const chart = await chartJobs();
  // The lease is a minute: what is not given back holds the job up for as long.
  const address = ['--queue', nats.url, '--url', stand.server.url];
  const job = startCommand([...words('out'), ...address]);
  const worker = startCommand([...chart.words, ...address]);
  const heir = startCommand([...chart.words, ...address]);
  workers.push(job, worker, heir);
  const areAtWork = (): boolean =>
    [worker, heir].every((one) => one.said().includes('working on job'));
  await until('both work', areAtWork);
  await partsReach(6);
  const names = await asked(({ streams }) => Array.fromAsync(streams.names()));
  expect(names.filter((name) => chart.streams.test(name))).toHaveLength(1);
  expect(names.length).toBeGreaterThan(1);
  const toldMs = performance.now();
  worker.kill('SIGTERM');
  const { status, said } = await worker.ended;
  expect(status, said).toBe(143);
  expect(performance.now() - toldMs).toBeLessThan(chart.graceMs);
  await expectCalmBytes(job);
  expect(performance.now() - toldMs).toBeLessThan(30_000);
  // The other one stays, and takes the next job.
  const next = startCommand([...words('next'), ...address]);
  workers.push(next);
  await until('it takes it', () => heir.said().split('working on job').length === 3);
  expect((await next.ended).status).toBe(0);
  heir.kill('SIGTERM');
  expect((await heir.ended).status).toBe(143);
});

test.each([
  ['killed and restarted', false],
  ['killed, its data lost', true],
] as const)('the queue is %s', async (_name, losesData) => {
  const job = startJob();
  startWorker();
  await partsReach(8);
  await nats.restart({ losesData });
  await expectCalmBytes(job);
});

test('a part that fails again and again is named, the others are done, and retry brings it back', async () => {
  stand.answer = (_, texts) =>
    texts.some((text) => text.startsWith('статья 85 ') || text.startsWith('статья 86 '))
      ? refusal(422, 'EMB_TEXT_REFUSED')
      : undefined;
  const few = ['--errors-in-row-max', '2', '--tries-max', '2'];
  const { status, said } = await runCommand([...words('out'), ...queue(), ...few]);
  expect(status, said).toBe(5);
  expect(said).toContain('1 parts failed 2 times, the first is 2:');
  expect(await partCount()).toBe(TEXTS.length / 40 - 1);
  const jobId = /embed retry (\w+)/.exec(said)?.[1] ?? '';
  const told = startCommand(['status', '--queue', nats.url], { stdout: true });
  await told.ended;
  expect(told.wrote()).toContain(`${jobId}  running`);
  expect(told.wrote()).toContain('part 2 failed 2 times');
  stand.answer = undefined;
  expect((await runCommand(['retry', jobId, '--queue', nats.url])).status).toBe(0);
  const again = startCommand([...words('out'), ...queue(), ...few]);
  workers.push(again);
  await expectCalmBytes(again);
});

test('a job that is cancelled stops its workers', async () => {
  const job = startJob();
  await partsReach(3);
  const told = startCommand(['status', '--queue', nats.url], { stdout: true });
  await told.ended;
  const running = told
    .wrote()
    .split('\n')
    .find((line) => line.includes(stand.path('out')));
  expect(running).toContain('; workers: 1, ');
  const jobId = running?.split(' ')[0] ?? '';
  expect((await runCommand(['cancel', jobId, '--queue', nats.url])).status).toBe(0);
  const { status, said } = await job.ended;
  expect(status, said).toBe(5);
  expect(said).toContain('was cancelled');
  const after = startCommand(['status', '--queue', nats.url], { stdout: true });
  await after.ended;
  // Once seen: the worker of a moment ago, its rate and the time left.
  expect(after.wrote()).toMatch(new RegExp(`${jobId}  cancelled  \\d+/\\d+ parts, [^;]*$`, 'm'));
});
