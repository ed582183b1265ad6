/**
 * Multi-vectors over Triton, this checkout against another one:
 * `bun scripts/bench/multi-vector-bench.ts --with FOLDER`. The same Triton, the same texts, in
 * turns; ratios come from medians. The replies of both are compared, byte by byte. A bare server
 * that sends as many bytes takes turns, too: no server takes less for a text.
 */
import { join } from 'node:path';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { BASELINE, count, ROUNDS, readFlags, SETTINGS, secondsFlag, text } from '../flags.ts';
import { type ConnectionOwner, HttpConnection } from './load/http-connection.ts';
import { medianOf } from './load/latencies.ts';
import type { PlannedRequest } from './load/load-plan.ts';
import { saveRun } from './report/save-run.ts';
import { short, textTable } from './report/text-table.ts';
import { runScript, say } from './run-script.ts';
import { startBenchTriton } from './target/bench-triton.ts';
import { processTree, usageOf } from './target/process-usage.ts';
import { ROOT, type ServerProcess, startServerProcess } from './target/server-process.ts';

const FLAGS = {
  with: BASELINE,
  connections: count(8, [1, 64], 'connections that send one text of 512 tokens after the other'),
  heads: text('NAMES', 'multi_vector', 'heads asked for, by commas'),
  set: SETTINGS,
  rounds: ROUNDS,
  seconds: secondsFlag(3),
};

/** Texts that each turn goes through. */
const TEXT_COUNT = 32;
/** Each of WORDS is one token; two more frame a text. */
const WORDS_PER_TEXT = 510;
const WORDS = ['договор', 'время', 'суд', 'иск', 'статья', 'закон', 'право', 'срок'];
/** One reply of so many is compared whole: all would take the load a third of a processor. */
const WHOLE_EVERY = 8;
/** How often memory is looked at. */
const WATCH_MS = 10;
const FORMAT = 'application/msgpack; dtype=float16';

/** What a turn needs of a server, and how it ends. */
type RunningServer = Pick<ServerProcess, 'url' | 'pid' | 'stop'>;

const SIDES = ['baseline', 'this', 'bare server'] as const;

interface Turn {
  readonly textsPerSecond: number;
  readonly serverUsPerText: number;
  readonly tritonUsPerText: number;
  /** Of this process. */
  readonly loadUsPerText: number;
  /** The most that was resident. */
  readonly mostMb: number;
}

async function main(): Promise<void> {
  const flags = readFlags(import.meta.path, FLAGS);
  const { connections, rounds, seconds, set: settings } = flags;
  const heads = flags.heads.split(',');
  const triton = await startBenchTriton(
    { kind: 'trivial' },
    { maxBatch: 32, hasMultiVectors: true },
  );
  const stops = [triton.stop];
  try {
    const servers: ServerProcess[] = [];
    for (const root of [flags.with, ROOT]) {
      const server = await startServer(root, triton.url, root === ROOT ? settings : {});
      servers.push(server);
      stops.unshift(server.stop);
    }
    const bodies = textsOf(TEXT_COUNT).map((query) => JSON.stringify({ query, outputs: heads }));
    const planned: PlannedRequest[] = [];
    for (const body of bodies) planned.push(await planOf(servers, body));
    const bare = await startBareServer(planned[0].replyBody.length);
    stops.unshift(bare.stop);
    const plannedOfBare = [await planOf([bare, bare], bodies[0])];
    const turns: Turn[][] = [[], [], []];
    for (let round = 1; round <= rounds; round++) {
      for (const [side, server] of [...servers, bare].entries()) {
        const requests = server === bare ? plannedOfBare : planned;
        const load = { requests, connections, triton: triton.pid, ms: 1000 * seconds };
        const turn = await takeTurn(server, load);
        turns[side].push(turn);
        say(`round ${round}, ${SIDES[side]}: ${short(turn.textsPerSecond)} texts/s`);
      }
    }
    console.log(report(turns));
    await saveRun('multi-vector-bench', { connections, rounds, seconds, heads, settings }, turns);
  } finally {
    for (const stop of stops) await stop();
  }
}

/** A server that sends so many bytes to whatever it is asked. */
async function startBareServer(bytes: number): Promise<RunningServer> {
  const script = join(import.meta.dir, 'bare/bare-reply-server.ts');
  const child = Bun.spawn([process.execPath, script, String(bytes)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const { value } = await child.stdout.getReader().read();
  return {
    url: new TextDecoder().decode(value).trim(),
    pid: child.pid,
    async stop() {
      child.stdin.end();
      await child.exited;
    },
  };
}

async function startServer(
  root: string,
  tritonUrl: string,
  settings: Readonly<Record<string, string>>,
): Promise<ServerProcess> {
  say(`starting the server of ${root}`);
  const own = { BACKEND: 'triton', TRITON_URL: tritonUrl, LOG_LEVEL: 'warn', SERVER_TIMING: 'off' };
  return await startServerProcess({ root, environment: { ...own, ...settings } });
}

/** Sends texts for a while. @throws Error when a reply is not what it was before, byte for byte. */
async function takeTurn(
  server: RunningServer,
  load: {
    requests: readonly PlannedRequest[];
    connections: number;
    triton: number;
    ms: number;
  },
): Promise<Turn> {
  const { requests, connections, ms } = load;
  const { hostname, port } = new URL(server.url);
  const address = { hostname, port: Number(port) };
  const pids = processTree(server.pid);
  const tritonPids = processTree(load.triton);
  const before = [usageOf(pids).cpuMs, usageOf(tritonPids).cpuMs];
  const ownBefore = process.cpuUsage();
  const begun = performance.now();
  let sent = 0;
  let residentBytes = 0;
  const converse = async (): Promise<void> => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const next = (connection: HttpConnection): void => {
      if (performance.now() - begun < ms) connection.send(requests[sent++ % requests.length]);
      else resolve();
    };
    const owner: ConnectionOwner = {
      onReply(of, { status, otherBody }) {
        if (status !== 200 || otherBody !== undefined) reject(new Error('a reply is another'));
        else next(of);
      },
      onBroken: (_, why) => reject(new Error(why)),
    };
    const connection = await HttpConnection.open(address, owner, WHOLE_EVERY);
    next(connection);
    await promise.finally(() => connection.close());
  };
  const watch = setInterval(() => {
    residentBytes = Math.max(residentBytes, usageOf(pids).residentBytes);
  }, WATCH_MS);
  await Promise.all(Array.from({ length: connections }, converse)).finally(() =>
    clearInterval(watch),
  );
  const own = process.cpuUsage(ownBefore);
  return {
    textsPerSecond: (1000 * sent) / (performance.now() - begun),
    loadUsPerText: (own.user + own.system) / sent,
    serverUsPerText: (1000 * (usageOf(pids).cpuMs - before[0])) / sent,
    tritonUsPerText: (1000 * (usageOf(tritonPids).cpuMs - before[1])) / sent,
    mostMb: residentBytes / 1e6,
  };
}

async function replyTo({ url }: RunningServer, body: string): Promise<Uint8Array> {
  const headers = { 'Content-Type': 'application/json', Accept: FORMAT };
  const reply = await fetch(`${url}/encode`, { method: 'POST', headers, body });
  const bytes = new Uint8Array(await reply.arrayBuffer());
  if (reply.status === 200) return bytes;
  throw new Error(`status ${reply.status}: ${new TextDecoder().decode(bytes.subarray(0, 300))}`);
}

/** @throws Error when two servers give other bytes for one request. */
async function planOf(servers: readonly RunningServer[], body: string): Promise<PlannedRequest> {
  const [theirs, ours] = await Promise.all(servers.map((server) => replyTo(server, body)));
  if (Buffer.compare(theirs, ours) !== 0) throw new Error('the checkouts give other bytes');
  const head = [
    'POST /encode HTTP/1.1',
    'Host: bench',
    'Content-Type: application/json',
    `Accept: ${FORMAT}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
  ].join('\r\n');
  const bytes = Buffer.from(`${head}\r\n\r\n${body}`);
  return { bytes, replyBody: ours, kind: 'text', textCount: 1, tokenCount: WORDS_PER_TEXT + 2 };
}

/** Texts of the same words in other orders. */
function textsOf(count: number): readonly string[] {
  const random = seededRandom(1);
  const word = (): string => WORDS[random.below(WORDS.length)];
  return Array.from({ length: count }, () =>
    Array.from({ length: WORDS_PER_TEXT }, word).join(' '),
  );
}

const FIGURES: readonly (readonly [heading: string, of: (turn: Turn) => number])[] = [
  ['texts/s', ({ textsPerSecond }) => textsPerSecond],
  ['server µs/text', ({ serverUsPerText }) => serverUsPerText],
  ['Triton µs/text', ({ tritonUsPerText }) => tritonUsPerText],
  ['load µs/text', ({ loadUsPerText }) => loadUsPerText],
  ['most memory MB', ({ mostMb }) => mostMb],
];

function report(turns: readonly (readonly Turn[])[]): string {
  const [baseline, ours, bare] = turns.map((side) =>
    FIGURES.map(([, of]) => medianOf(side.map(of))),
  );
  return textTable(
    ['medians', ...FIGURES.map(([heading]) => heading)],
    [
      ['baseline', ...baseline.map(short)],
      ['this', ...ours.map(short)],
      ['  ratio', ...ours.map((value, at) => `${short(value / baseline[at])} ×`)],
      [SIDES[2], ...bare.map(short)],
    ],
  );
}

await runScript('multi-vector-bench', main);
