import { type Clock, sleep, systemClock } from '../../base/clock.ts';
import { freePorts, isFreePort } from './free-ports.ts';
import { spawnTriton, type TritonPorts, type TritonProcess } from './triton-process.ts';
import { parseTritonStatistics, type TritonStatistics } from './triton-statistics.ts';

/** Start took 0.2 to 0.5 s here; the rest is for a machine that does ten things at once. */
const START_MS_MAX = 30_000;
const POLL_MS = 20;
/** One look at readiness may hang no longer than this. */
const PROBE_MS_MAX = 1000;
/** The counts came within milliseconds; the rest is for a busy machine. */
const COUNT_MS_MAX = 5000;
/** Another process can take a port between our look and Triton's bind. */
const PORT_ATTEMPTS_MAX = 3;

export interface StartTritonOptions {
  /** Absolute path of the model repository, as `writeRepository` fills it. */
  readonly repository: string;
  /**
   * Absolute path of a backend directory; by default the one that comes with Triton, which holds
   * `python` alone.
   */
  readonly backends?: string;
  readonly extraArguments?: readonly string[];
  /** Milliseconds until it must be ready; by default half a minute. */
  readonly startMsMax?: number;
  /** By default free ones. */
  readonly ports?: TritonPorts;
  readonly clock?: Clock;
}

/** A live Triton on 127.0.0.1. Whoever started it stops it. */
export interface RunningTriton {
  /** `http://127.0.0.1:port`, the same after a restart. */
  readonly url: string;
  readonly grpcPort: number;
  readonly metricsPort: number;
  /** Of the current run; another after a restart. */
  readonly pid: number;
  /** Standard output and error of the current run, also after it ended. */
  logs(): string;
  /** Resolves with how the current run ended, when it ends. */
  ended(): Promise<string>;
  /**
   * What Triton itself counted for `model` since its start. It counts a request a little after it
   * answered it: who compares counts says how many successful requests must be among them.
   *
   * @throws Error when `requestCountMin` is not reached in time.
   */
  statistics(model: string, options?: { requestCountMin: number }): Promise<TritonStatistics>;
  /** SIGSTOP stalls it, SIGCONT lets it go on, SIGKILL is a crash. */
  signal(name: NodeJS.Signals): void;
  /** Politely first; calling it twice is harmless. Resolves when no process of it is left. */
  stop(): Promise<void>;
  /** Ends what still runs, then starts on the same ports. Resolves when it is ready. */
  restart(): Promise<void>;
}

/**
 * Starts a real Triton and waits until it and all its models are ready.
 *
 * @throws Error with Triton's own error lines when it ends early (a configuration that it rejects)
 *   or misses the deadline; no process is left then.
 */
export async function startTriton(options: StartTritonOptions): Promise<RunningTriton> {
  const clock = options.clock ?? systemClock;
  const startMsMax = options.startMsMax ?? START_MS_MAX;
  const startOn = async (ports: TritonPorts): Promise<TritonProcess> => {
    // Two Tritons share an HTTP port without a word, and each gets some of the requests.
    const taken = Object.values(ports).find((port) => !isFreePort(port));
    if (taken !== undefined) throw new Error(`port ${taken} of 127.0.0.1 is taken`);
    const { repository, backends, extraArguments = [] } = options;
    const triton = spawnTriton({ repository, backends, extraArguments, ports, clock });
    await untilReady({ triton, port: ports.http, startMsMax, clock });
    return triton;
  };

  let { triton, ports } = await onFreePorts(startOn, options.ports);
  const url = `http://127.0.0.1:${ports.http}`;
  return {
    url,
    grpcPort: ports.grpc,
    metricsPort: ports.metrics,
    get pid() {
      return triton.pid;
    },
    logs: () => triton.logs(),
    ended: () => triton.ended,
    statistics: (model, { requestCountMin } = { requestCountMin: 0 }) =>
      countedStatistics({ url, model, requestCountMin, clock }),
    signal: (name) => triton.signal(name),
    stop: () => triton.terminate(),
    async restart() {
      await triton.terminate();
      triton = await startOn(ports);
    },
  };
}

/** Starts on the given ports, or on free ones, and on others when someone was faster. */
async function onFreePorts(
  startOn: (ports: TritonPorts) => Promise<TritonProcess>,
  given: TritonPorts | undefined,
): Promise<{ triton: TritonProcess; ports: TritonPorts }> {
  for (let attempt = 1; ; attempt++) {
    const [http = 0, grpc = 0, metrics = 0] = given === undefined ? freePorts(3) : [];
    const ports = given ?? { http, grpc, metrics };
    try {
      return { triton: await startOn(ports), ports };
    } catch (error) {
      const taken = error instanceof Error && /already in use|is taken/i.test(error.message);
      if (given !== undefined || !taken || attempt === PORT_ATTEMPTS_MAX) throw error;
    }
  }
}

async function countedStatistics(options: {
  url: string;
  model: string;
  requestCountMin: number;
  clock: Clock;
}): Promise<TritonStatistics> {
  const { url, model, requestCountMin, clock } = options;
  const deadline = clock.now() + COUNT_MS_MAX;
  for (;;) {
    const reply = await fetch(`${url}/v2/models/${model}/stats`, { keepalive: false });
    if (!reply.ok) throw new Error(`no statistics of ${model}: ${await reply.text()}`);
    const statistics = parseTritonStatistics(await reply.json());
    if (statistics.requestCount >= requestCountMin) return statistics;
    if (clock.now() > deadline) {
      throw new Error(`Triton counted ${statistics.requestCount} requests, not ${requestCountMin}`);
    }
    await sleep(clock, POLL_MS);
  }
}

async function untilReady(options: {
  triton: TritonProcess;
  port: number;
  startMsMax: number;
  clock: Clock;
}): Promise<void> {
  const { triton, port, startMsMax, clock } = options;
  const deadline = clock.now() + startMsMax;
  for (;;) {
    const ended = triton.endedAs();
    if (ended !== undefined) {
      const lines = errorLines(triton.logs());
      await triton.terminate();
      throw new Error(`Triton ended with ${ended} before it was ready:\n${lines}`);
    }
    // Another server on the port answers, too: only once ours listens is the answer ours.
    if (
      triton.logs().includes(`HTTPService at 127.0.0.1:${port}`) &&
      (await isReady(port, clock))
    ) {
      return;
    }
    if (clock.now() > deadline) {
      triton.signal('SIGKILL');
      await triton.terminate();
      throw new Error(`Triton was not ready within ${startMsMax} ms:\n${lastLines(triton.logs())}`);
    }
    await sleep(clock, POLL_MS);
  }
}

async function isReady(port: number, clock: Clock): Promise<boolean> {
  const abort = new AbortController();
  const cancel = clock.schedule(PROBE_MS_MAX, () => abort.abort());
  try {
    const url = `http://127.0.0.1:${port}/v2/health/ready`;
    return (await fetch(url, { keepalive: false, signal: abort.signal })).ok;
  } catch {
    return false;
  } finally {
    cancel();
  }
}

/** What Triton says went wrong, without the lines about a missing GPU. */
function errorLines(logs: string): string {
  const lines = logs
    .split('\n')
    .filter((line) => /^(E\d{4}|error|\[libprotobuf|terminate called)|Failed to start/.test(line))
    .filter((line) => !line.includes('CudaDriverHelper'));
  return lines.length > 0 ? lines.join('\n') : lastLines(logs);
}

function lastLines(logs: string): string {
  return logs.trimEnd().split('\n').slice(-12).join('\n');
}
