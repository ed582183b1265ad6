/**
 * Sends single queries at a fixed rate, whatever comes back, to a server whose Triton takes a known
 * time for each batch; counts what is answered within the callers' deadline, from the moment each
 * was due. A client that obeys Retry-After is timed beside it.
 */
import { startProcess } from '../../src/testing/e2e/start-process.ts';
import { until } from '../../src/testing/until.ts';
import { startBenchTriton } from '../bench/target/bench-triton.ts';
import { count, readFlags } from '../flags.ts';

const values = readFlags(import.meta.path, {
  seconds: count(8, [1, 600], 'seconds of each rate'),
  'deadline-ms': count(2000, [10, 600_000], "a caller's deadline"),
});
const seconds = values.seconds;
const deadlineMs = values['deadline-ms'];
const LEVELS = [0.5, 1, 2, 3, 10];

/** Slow enough that neither the server nor this process is what is short. */
const MODEL = { kind: 'timed', launchMs: 40, tokensPerSecond: 20_000 } as const;
const MAX_BATCH = 8;

const triton = await startBenchTriton(MODEL, { maxBatch: MAX_BATCH });
const server = await startProcess({
  TRITON_URL: triton.url,
  MODEL: 'bge-m3',
  REQUEST_TIMEOUT_MS: String(deadlineMs),
  QUEUE_HOLD_MS: '0',
  LOG_LEVEL: 'error',
});
await until('the server is ready', async () => (await fetch(`${server.url}/ready`)).ok);

let nextText = 0;

async function ask(): Promise<{ status: number; retryMs: number }> {
  const reply = await fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/msgpack' },
    body: JSON.stringify({ query: `договор аренды ${nextText++}` }),
  });
  await reply.bytes();
  return { status: reply.status, retryMs: Number(reply.headers.get('retry-after-ms') ?? 100) };
}

/** Answers a second with as many clients as fill all batches. */
async function measureCapacity(): Promise<number> {
  const untilMs = performance.now() + seconds * 1000;
  let count = 0;
  const client = async (): Promise<void> => {
    while (performance.now() < untilMs) if ((await ask()).status === 200) count++;
  };
  await Promise.all(Array.from({ length: 8 * MAX_BATCH }, client));
  return count / seconds;
}

/** One query after the other; a refused one is sent again when it was told to. */
async function obey(untilMs: number): Promise<number[]> {
  const waits: number[] = [];
  while (performance.now() < untilMs) {
    const startMs = performance.now();
    for (let reply = await ask(); reply.status !== 200; reply = await ask()) {
      await Bun.sleep(reply.retryMs);
    }
    waits.push(performance.now() - startMs);
  }
  return waits;
}

async function sendAt(ratePerSecond: number): Promise<string> {
  const startMs = performance.now();
  const endMs = startMs + seconds * 1000;
  const latencies: number[] = [];
  const seen = new Map<number, number>();
  const open: Promise<void>[] = [];
  const obedient = obey(endMs);
  for (let dueMs = startMs; dueMs < endMs; dueMs += 1000 / ratePerSecond) {
    while (performance.now() < dueMs) await Bun.sleep(Math.max(0, dueMs - performance.now()));
    open.push(
      ask().then(({ status }) => {
        seen.set(status, (seen.get(status) ?? 0) + 1);
        if (status === 200) latencies.push(performance.now() - dueMs);
      }),
    );
  }
  await Promise.all(open);
  const waits = (await obedient).sort((a, b) => a - b);
  latencies.sort((a, b) => a - b);
  const inTime = latencies.filter((ms) => ms <= deadlineMs).length;
  const at = (list: readonly number[], share: number): string =>
    `${Math.round(list[Math.floor(share * (list.length - 1))] ?? 0)} ms`;
  const statuses = [...seen].map(([status, count]) => `${count} × ${status}`).join(', ');
  return `${Math.round(inTime / seconds)} | ${at(latencies, 0.5)} | ${at(latencies, 0.99)} | ${statuses} | ${waits.length} of ${waits.length}, at most ${at(waits, 1)}`;
}

try {
  await measureCapacity();
  const capacity = await measureCapacity();
  console.log(`capacity: ${Math.round(capacity)} queries a second`);
  console.log(
    '| load | sent a second | goodput | median | 99th percentile | replies | obedient client |',
  );
  console.log('| --- | --- | --- | --- | --- | --- | --- |');
  for (const level of LEVELS) {
    const rate = capacity * level;
    console.log(`| ${level} × | ${Math.round(rate)} | ${await sendAt(rate)} |`);
    await Bun.sleep(deadlineMs);
  }
} finally {
  server.signal('SIGKILL');
  await server.exited;
  await triton.stop();
}
