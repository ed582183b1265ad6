import {
  afterAll,
  afterEach,
  beforeAll,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { parseScrape, type Scrape } from '../scraped-metrics.ts';
import { until } from '../until.ts';
import { type ServerProcess, startProcess } from './start-process.ts';

/**
 * One server of several processes: `SERVER_PROCESSES`.
 *
 * Faults that were planted by hand, and that this suite caught: a scrape of one process
 * alone, processes that do not share the port, the dead not replaced or what they counted
 * forgotten, gauges of a silent one summed, a second signal ending a process that drains, the
 * supervisor not waiting for the drain, processes that outlive it.
 */

setDefaultTimeout(60_000);

let triton: FakeTriton;
let server: ServerProcess | undefined;

beforeAll(async () => {
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  triton = await startFakeTriton({ model: 'bge_model', ...shape });
});

afterAll(() => triton.stop());

afterEach(async () => {
  triton.behave({ kind: 'answer' });
  if (server === undefined) return;
  const pids = pidsOf(server);
  server.signal('SIGKILL');
  for (const pid of pids.filter(isAlive)) process.kill(pid, 'SIGCONT');
  await server.exited;
  server = undefined;
  await until('its processes are gone too', () => !pids.some(isAlive));
});

const SETTINGS = { SERVER_PROCESSES: '2', TOKENIZER_WORKERS: '1' };

async function startTwo(settings: Record<string, string> = {}): Promise<ServerProcess> {
  const started = await startProcess({ TRITON_URL: triton.url, ...SETTINGS, ...settings });
  server = started;
  await until('both are ready', async () => (await scrape(started)).get('bge_encoder_ready') === 1);
  return started;
}

/** Each on a connection of its own, so that the system deals them out. */
function ask({ url }: ServerProcess, path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(url + path, { keepalive: false, ...init });
}

function encode(to: ServerProcess): Promise<Response> {
  return ask(to, '/encode', { method: 'POST', body: '{"query":"тест"}' });
}

async function scrape(from: ServerProcess, init: RequestInit = {}): Promise<Scrape> {
  return parseScrape(await (await ask(from, '/metrics', init)).text());
}

interface Line {
  readonly event: string;
  readonly process?: number;
  readonly pid?: number;
}

function logOf({ stderr }: ServerProcess): readonly Line[] {
  const lines = stderr().split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

/** Every process that the supervisor has ever started, oldest first. */
function pidsOf(of: ServerProcess): readonly number[] {
  return logOf(of).flatMap(({ event, pid }) => (event === 'process-started' && pid ? [pid] : []));
}

/** One that has ended, and whose parent has not taken note yet, is gone: Linux tells by a Z. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    const stat = `/proc/${pid}/stat`;
    return !existsSync(stat) || !/\) Z /.test(readFileSync(stat, 'utf8'));
  } catch {
    return false;
  }
}

const ENCODED = 'bge_encoder_requests_total{route="/encode",status="200"}';

describe('two processes', () => {
  test('serve on one port: both are asked, /metrics is the sum, the banner is told once', async () => {
    const two = await startTwo();
    const seen = new Map<number, number>();
    let infoCount = 0;
    await until('both have answered', async () => {
      infoCount++;
      const { processes } = (await (await ask(two, '/info')).json()) as {
        processes: { count: number; index: number };
      };
      expect(processes.count).toBe(2);
      seen.set(processes.index, (seen.get(processes.index) ?? 0) + 1);
      return seen.size === 2;
    });
    expect([...seen.keys()].sort()).toEqual([0, 1]);
    const replies = await Promise.all(Array.from({ length: 20 }, () => encode(two)));
    expect(replies.map(({ status }) => status)).toEqual(Array(20).fill(200));
    // Whichever of them is asked, it says the same.
    for (const sums of await Promise.all(Array.from({ length: 8 }, () => scrape(two)))) {
      expect(sums.get(ENCODED)).toBe(20);
      expect(sums.get('bge_encoder_request_duration_seconds_count{route="/encode"}')).toBe(20);
      expect(sums.get('bge_encoder_requests_total{route="/info",status="200"}')).toBe(infoCount);
      expect(sums.get('bge_encoder_texts_total')).toBe(20);
      expect(sums.get('bge_encoder_processes')).toBe(2);
      expect(sums.get('bge_encoder_processes_configured')).toBe(2);
      expect(sums.get('bge_encoder_process_restarts_total')).toBe(0);
      // Two batches in flight to the endpoint, for each.
      expect(sums.get('bge_encoder_batch_slots')).toBe(4);
      expect(sums.get('bge_encoder_ready')).toBe(1);
      expect(sums.get(`bge_encoder_backend_endpoint_up{endpoint="${triton.url}"}`)).toBe(1);
    }
    expect(two.stderr().match(/^BGE-M3 .*, 2 processes$/gm)).toHaveLength(1);
    expect(triton.problems).toEqual([]);
  });

  test('one that does not answer is left out of /metrics with its gauges, not its counters', async () => {
    const two = await startTwo();
    await Promise.all(Array.from({ length: 20 }, () => encode(two)));
    expect((await scrape(two)).get(ENCODED)).toBe(20);
    process.kill(pidsOf(two)[0], 'SIGSTOP');
    // Some of these reach the one that is stopped, and are answered by nobody.
    const abort = new AbortController();
    const asked = Array.from({ length: 16 }, () => scrape(two, { signal: abort.signal }));
    const sums = await Promise.any(asked);
    abort.abort();
    await Promise.allSettled(asked);
    expect(sums.get('bge_encoder_processes')).toBe(1);
    expect(sums.get('bge_encoder_batch_slots')).toBe(2);
    expect(sums.get(ENCODED)).toBe(20);
  });

  test('one that is killed is replaced, what it counted stays, and requests go on', async () => {
    const two = await startTwo();
    await Promise.all(Array.from({ length: 20 }, () => encode(two)));
    expect((await scrape(two)).get(ENCODED)).toBe(20);
    process.kill(pidsOf(two)[1], 'SIGKILL');
    await until('it is replaced', () => pidsOf(two).length === 3);
    await until('the new one counts', async () => {
      const sums = await scrape(two);
      expect(sums.get(ENCODED)).toBe(20);
      expect(sums.get('bge_encoder_process_restarts_total')).toBe(1);
      return sums.get('bge_encoder_processes') === 2 && sums.get('bge_encoder_ready') === 1;
    });
    const replies = await Promise.all(Array.from({ length: 20 }, () => encode(two)));
    expect(replies.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect((await scrape(two)).get(ENCODED)).toBe(40);
    expect(two.stderr().match(/, 2 processes$/gm)).toHaveLength(1);
  });
});

describe('the end of two processes', () => {
  // A terminal and systemd signal the whole group, while the supervisor does so too.
  test.each([
    ['the first alone', 'SIGTERM', false],
    ['the whole group', 'SIGINT', true],
  ] as const)(
    'a signal to %s drains: what is at work is answered, exit status 0',
    async (_to, signal, isToAll) => {
      const two = await startTwo();
      const { promise: release, resolve: letGo } = Promise.withResolvers<void>();
      triton.behave({ kind: 'hold', until: release });
      const replies = Array.from({ length: 16 }, () => encode(two));
      await until('all are in work', async () => {
        return (await scrape(two)).get('bge_encoder_queue_texts') === 16;
      });
      if (isToAll) for (const pid of pidsOf(two)) process.kill(pid, signal);
      two.signal(signal);
      await until('both drain', () => {
        const draining = logOf(two).filter(({ event }) => event === 'draining');
        return [0, 1].every((index) => draining.some(({ process }) => process === index));
      });
      letGo();
      const statuses = (await Promise.all(replies)).map(({ status }) => status);
      expect(statuses).toEqual(Array(16).fill(200));
      expect(await two.exited).toBe(0);
      expect(two.stderr()).not.toContain('drain-cut-short');
      expect(pidsOf(two)).toHaveLength(2);
    },
  );

  test('until balancers have looked both go on serving, and /ready says 503', async () => {
    const two = await startTwo({ SHUTDOWN_DELAY_MS: '600000' });
    two.signal('SIGTERM');
    await until('both drain', () => {
      const draining = logOf(two).filter(({ event }) => event === 'draining');
      return [0, 1].every((index) => draining.some(({ process }) => process === index));
    });
    const ready = await Promise.all(Array.from({ length: 20 }, () => ask(two, '/ready')));
    expect(ready.map(({ status }) => status)).toEqual(Array(20).fill(503));
    const replies = await Promise.all(Array.from({ length: 20 }, () => encode(two)));
    expect(replies.map(({ status }) => status)).toEqual(Array(20).fill(200));
  });

  test('a second signal ends all of them at once, exit status 130', async () => {
    const two = await startTwo();
    triton.behave({ kind: 'stall' });
    const reply = encode(two).catch(() => 'cut off');
    await until('it is in work', async () => {
      return (await scrape(two)).get('bge_encoder_queue_texts') === 1;
    });
    two.signal('SIGINT');
    await until('they drain', () => two.stderr().includes('"draining"'));
    two.signal('SIGINT');
    expect(await two.exited).toBe(130);
    expect(await reply).toBe('cut off');
    await until('none is left', () => !pidsOf(two).some(isAlive));
  });

  test('processes whose supervisor was killed end by themselves', async () => {
    const two = await startTwo();
    two.signal('SIGKILL');
    await two.exited;
    await until('none is left', () => !pidsOf(two).some(isAlive));
  });
});
