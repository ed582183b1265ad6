/**
 * Thousands of clients connect and send one byte a second; a normal client beside them is timed
 * before, while they are there and after. Half of them never finish their headers, half their body.
 */
import { connect, type Socket } from 'node:net';
import { startProcess } from '../../src/testing/e2e/start-process.ts';
import { startFakeTriton } from '../../src/testing/fake-triton.ts';
import { until } from '../../src/testing/until.ts';
import { count, readFlags } from '../flags.ts';

const values = readFlags(import.meta.path, {
  clients: count(10_000, [1, 50_000], 'clients that send a byte a second'),
  seconds: count(15, [1, 3600], 'seconds beside them'),
});
const clientCount = values.clients;
const SHAPE = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;

/** Connections opened in one go: a listening socket's queue is not what is tried here. */
const OPENED_AT_ONCE = 200;

const fake = await startFakeTriton({ model: 'bge_model', ...SHAPE });
const server = await startProcess({ TRITON_URL: fake.url, MODEL: 'bge-m3', LOG_LEVEL: 'error' });
const isReady = async (): Promise<boolean> => (await fetch(`${server.url}/ready`)).status === 200;
await until('the server is ready', isReady);

/** Latencies of a client that sends one query after the other, in ms, ascending. */
async function timeClient(seconds: number): Promise<number[]> {
  const latencies: number[] = [];
  const untilMs = performance.now() + seconds * 1000;
  while (performance.now() < untilMs) {
    const startMs = performance.now();
    const reply = await fetch(`${server.url}/encode`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: 'договор аренды помещения' }),
    });
    await reply.bytes();
    if (reply.status !== 200) throw new Error(`a normal client got ${reply.status}`);
    latencies.push(performance.now() - startMs);
    await Bun.sleep(10);
  }
  return latencies.sort((a, b) => a - b);
}

function show(when: string, latencies: readonly number[]): void {
  const at = (share: number): string =>
    (latencies[Math.floor(share * (latencies.length - 1))] ?? 0).toFixed(1);
  const memory = Bun.spawnSync(['ps', '-o', 'rss=', '-p', String(server.pid)]).stdout.toString();
  console.log(
    `${when}: ${latencies.length} requests, median ${at(0.5)} ms, 99th percentile ${at(0.99)} ms, ` +
      `longest ${at(1)} ms; the server has ${Math.round(Number(memory) / 1024)} MB`,
  );
}

const port = Number(new URL(server.url).port);
const sockets: Socket[] = [];
let refusedCount = 0;
try {
  await timeClient(2);
  show('before', await timeClient(5));
  for (let index = 0; index < clientCount; index++) {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.on('data', () => {
      refusedCount++;
    });
    const head = 'POST /encode HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n';
    socket.write(index % 2 === 0 ? head : `${head}Content-Length: 60000\r\n\r\n{"query":"`);
    sockets.push(socket);
    if (index % OPENED_AT_ONCE === 0) await Bun.sleep(10);
  }
  let next = 0;
  // A tenth of them in each tenth of a second: the sender must not be the bottleneck.
  const dripping = setInterval(() => {
    for (let count = 0; count < clientCount / 10; count++) {
      sockets[next++ % clientCount]?.write('a');
    }
  }, 100);
  await Bun.sleep(2000);
  show(`with ${clientCount} slow senders`, await timeClient(values.seconds));
  clearInterval(dripping);
  console.log(`${refusedCount} of them were answered meanwhile`);
} finally {
  for (const socket of sockets) socket.destroy();
}
await Bun.sleep(1000);
show('after', await timeClient(3));
server.signal('SIGTERM');
console.log(`exit status ${await server.exited}`);
await fake.stop();
