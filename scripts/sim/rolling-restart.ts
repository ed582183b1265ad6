/**
 * A rollout as callers see it: three servers behind HAProxy, single queries at a fixed rate, each
 * server ended and started again several times, one after the other. Counts what failed, what was
 * computed more than once, and the latency of the rollout against that of quiet.
 *
 * `kill` ends a server with SIGKILL in place of SIGTERM; `stop` stops it for 5 s and lets it go on;
 * `model` replaces it for 3 s by one that serves another model. Through `client`, APIEncoder
 * spreads the requests itself, with no balancer in front and as many tries as it has by default.
 * `--write` puts what came out into its row of the table in scripts/deploy/README.md. The exit
 * status says whether no request failed, none was computed twice, and the p99 stayed within
 * 1.5 times that of quiet.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { APIEncoder } from '../../src/client/api-encoder.ts';
import { type ServerProcess, startProcess } from '../../src/testing/e2e/start-process.ts';
import { startFakeTriton } from '../../src/testing/fake-triton.ts';
import { until } from '../../src/testing/until.ts';
import { amount, count, oneOf, onOff, readFlags } from '../flags.ts';
import { startHaproxy } from './rolling/haproxy.ts';

const values = readFlags(import.meta.path, {
  requests: count(20_000, [10, 10_000_000], 'requests'),
  rate: amount(200, [0.1, 100_000], 'requests a second'),
  restarts: count(3, [1, 1000], 'restarts of each server'),
  retries: count(0, [0, 100], 'retries of HAProxy'),
  'delay-ms': count(2000, [0, 600_000], 'SHUTDOWN_DELAY_MS of the servers'),
  fault: oneOf(['restart', 'kill', 'stop', 'model'], 'what happens to a server'),
  through: oneOf(['balancer', 'client'], 'who spreads the requests'),
  write: onOff('puts the line into scripts/deploy/README.md'),
});
const requestCount = values.requests;
const gapMs = 1000 / values.rate;
const restartCount = values.restarts;
const SERVERS = 3;
/** Requests before the first restart, whose latency is that of quiet. */
const quietCount = Math.floor(requestCount / 10);
/** How long a stopped server stays so. */
const STOP_MS = 5000;
/** How long a server of another model stands in. */
const OTHER_MODEL_MS = 3000;
/** What callers wait for. */
const TIMEOUT_MS = 10_000;
/** How many times the p99 of quiet a rollout's may be. */
const SLOWER_MAX = 1.5;
/** What became of a request whose row came from another model. */
const OTHER_ROW = 'row of another model';
const README = join(import.meta.dir, '../deploy/README.md');

interface Outcome {
  readonly dueMs: number;
  readonly latencyMs: number;
  readonly status: number | string;
}

const folder = mkdtempSync(join(tmpdir(), 'rolling-'));
const triton = await startFakeTriton({
  ...{ model: 'bge_model', datatype: 'INT64', dimension: 1024, batchTextsMax: 32 },
});
const ports = await freePorts(SERVERS + 1);
const servers = await Promise.all(ports.slice(1).map((port) => start(port)));
const balancer = await startHaproxy({
  servers: servers.map(({ url }) => url),
  port: ports[0] ?? 0,
  retries: values.retries,
  folder,
});
for (let index = 0; index < SERVERS; index++) await balancer.untilServer(index, 'UP');
const encoder = new APIEncoder(
  servers.map(({ url }) => url),
  { timeoutMs: 2000, totalTimeoutMs: TIMEOUT_MS },
);

const outcomes: Outcome[] = [];
const quietOver = Promise.withResolvers<void>();
const startMs = performance.now();
const load = sendAll();
await quietOver.promise;
const rolloutMs = performance.now() - startMs;
for (let round = 0; round < restartCount; round++) {
  for (let index = 0; index < SERVERS; index++) await replace(index);
}
const rolledMs = performance.now() - startMs;
await load;
const isGood = await report();
await encoder.close();
await balancer.stop();
for (const server of servers) server.signal('SIGKILL');
await triton.stop();
rmSync(folder, { recursive: true });
process.exit(isGood ? 0 : 1);

/** A server on a port of its own, once it answers. */
async function start(port: number, isOther = false): Promise<ServerProcess> {
  const server = await startProcess({
    PORT: String(port),
    ...(isOther
      ? { BACKEND: 'embedded', EMBEDDED_SLOTS: '1' }
      : { TRITON_URL: triton.url, MODEL: 'bge-m3' }),
    TOKENIZER_WORKERS: '1',
    SHUTDOWN_DELAY_MS: String(values['delay-ms']),
    LOG_LEVEL: 'error',
  });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  return server;
}

/** Replaces one server as a rollout does, and waits until the balancer uses the new one. */
async function replace(index: number): Promise<void> {
  const server = servers[index];
  const port = ports[index + 1];
  if (server === undefined || port === undefined) return;
  if (values.fault === 'stop') {
    server.signal('SIGSTOP');
    await Bun.sleep(STOP_MS);
    server.signal('SIGCONT');
  } else {
    server.signal(values.fault === 'kill' ? 'SIGKILL' : 'SIGTERM');
    await server.exited;
    // The new pod is there after the balancer has seen the old one die.
    if (values.fault === 'kill') await balancer.untilServer(index, 'DOWN');
    if (values.fault === 'model') {
      const other = await start(port, true);
      await Bun.sleep(OTHER_MODEL_MS);
      other.signal('SIGTERM');
      await other.exited;
    }
    servers[index] = await start(port);
  }
  await balancer.untilServer(index, 'UP');
}

/** Sends each request when it is due, whatever has come back; latency counts from then. */
async function sendAll(): Promise<void> {
  const running: Promise<void>[] = [];
  for (let index = 0; index < requestCount; index++) {
    const dueMs = index * gapMs;
    const early = startMs + dueMs - performance.now();
    if (early > 1) await Bun.sleep(early);
    running.push(send(index, dueMs));
  }
  await Promise.all(running);
}

async function send(index: number, dueMs: number): Promise<void> {
  // The number makes the text one of a kind: at Triton it is seen how often it was computed.
  const text = `договор аренды номер ${index}`;
  const ask = values.through === 'client' ? askByClient : askByBalancer;
  const status = await ask(text).catch((error) => error.code ?? error.name);
  outcomes.push({ dueMs, latencyMs: performance.now() - startMs - dueMs, status });
  if (outcomes.length === quietCount) quietOver.resolve();
}

/** @returns the status, or what is wrong with the row. */
async function askByBalancer(text: string): Promise<number | string> {
  const reply = await fetch(`${balancer.url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: text }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const body = await reply.text();
  return reply.ok && !body.includes('"model":"bge-m3"') ? OTHER_ROW : reply.status;
}

async function askByClient(text: string): Promise<number | string> {
  const row = await encoder.encode(text);
  return row.length === 1024 ? 200 : OTHER_ROW;
}

async function report(): Promise<boolean> {
  const failed = outcomes.filter(({ status }) => status !== 200);
  const byStatus = new Map<number | string, number>();
  for (const { status } of outcomes) byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
  const timesOfText = new Map<string, number>();
  for (const { texts } of triton.inferences) {
    // A probe is a text of two tokens.
    for (const ids of texts.filter((text) => text.length > 2)) {
      const key = ids.join(' ');
      timesOfText.set(key, (timesOfText.get(key) ?? 0) + 1);
    }
  }
  const twice = [...timesOfText.values()].filter((times) => times > 1).length;
  const within = (fromMs: number, toMs: number) =>
    outcomes
      .filter(({ dueMs, status }) => status === 200 && dueMs >= fromMs && dueMs < toMs)
      .map(({ latencyMs }) => latencyMs);
  // The first second warms connections and caches.
  const quiet = quantile(within(1000, rolloutMs), 0.99);
  const rolled = quantile(within(rolloutMs, rolledMs), 0.99);
  const rolledSeconds = ((rolledMs - rolloutMs) / 1000).toFixed(0);
  const statuses = [...byStatus].map(([status, count]) => `${count} × ${status}`).join(', ');
  const retries = values.through === 'client' ? '' : ` of HAProxy, its retries ${values.retries}`;
  console.log(`fault ${values.fault}, through the ${values.through}${retries}`);
  console.log(`failed        ${failed.length} of ${outcomes.length} (${statuses})`);
  console.log(`computed twice ${twice} of ${timesOfText.size} texts`);
  const slower = rolled / quiet;
  const p99 = `${quiet.toFixed(1)} ms quiet, ${rolled.toFixed(1)} ms`;
  console.log(`p99           ${p99} in the rollout: ${slower.toFixed(2)} times`);
  console.log(`rollout       ${SERVERS * restartCount} ends in ${rolledSeconds} s`);
  if (values.write) {
    const tries = values.retries === 0 ? '' : ` with ${values.retries} retries`;
    const cells = [
      `${values.fault}, ${values.through}${tries}`,
      `${failed.length} of ${outcomes.length}`,
      `${byStatus.get(OTHER_ROW) ?? 0}`,
      `${twice}`,
      `${p99} (${slower.toFixed(2)} times)`,
    ];
    await writeRow(cells);
  }
  return failed.length === 0 && twice === 0 && slower <= SLOWER_MAX;
}

/** Puts a row in place of the one that begins with the same cell. */
async function writeRow(cells: readonly string[]): Promise<void> {
  const text = await Bun.file(README).text();
  const [head = '', table = '', tail = ''] = text.split(/<!-- \/?rollouts -->/);
  const lines = table.trim().split('\n');
  const at = lines.findIndex((line) => line.startsWith(`| ${cells[0]} |`));
  lines[at === -1 ? lines.length : at] = `| ${cells.join(' | ')} |`;
  const written = `${head}<!-- rollouts -->\n\n${lines.join('\n')}\n\n<!-- /rollouts -->${tail}`;
  await Bun.write(README, written);
}

function quantile(numbers: number[], share: number): number {
  numbers.sort((a, b) => a - b);
  return numbers[Math.floor((numbers.length - 1) * share)] ?? Number.NaN;
}

/** Ports that are free now; whoever restarts on one finds it so. */
async function freePorts(count: number): Promise<number[]> {
  const listeners = Array.from({ length: count }, () =>
    Bun.listen({ hostname: '127.0.0.1', port: 0, socket: { data() {} } }),
  );
  const ports = listeners.map(({ port }) => port);
  for (const listener of listeners) listener.stop(true);
  return ports;
}
