import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, sleep } from '../../base/clock.ts';
import { tritonVenv } from './triton-venv.ts';

/** How often a process that starts or ends is looked at. */
const POLL_MS = 20;
/**
 * Triton gives open connections this long on a polite stop; one idle keep-alive connection uses it
 * up.
 */
const EXIT_TIMEOUT_SECONDS = 3;
/** Twice Triton's own exit timeout, and its one-second polls on top; after that it is killed. */
const STOP_MS_MAX = 8000;
/** The backend's stubs see within two seconds that their Triton is gone. */
const STUB_EXIT_MS_MAX = 3000;

export interface TritonPorts {
  readonly http: number;
  readonly grpc: number;
  readonly metrics: number;
}

export interface TritonProcessOptions {
  readonly repository: string;
  readonly backends: string | undefined;
  readonly extraArguments: readonly string[];
  readonly ports: TritonPorts;
  readonly clock: Clock;
}

/** One run of `tritonserver`, from its first byte of log to its last stub. */
export interface TritonProcess {
  readonly pid: number;
  /** How it ended, or undefined while it runs: a signal's name, or `code 1`. */
  endedAs(): string | undefined;
  /** Resolves with how it ended. Never rejects. */
  readonly ended: Promise<string>;
  /** Standard output and error so far. */
  logs(): string;
  signal(name: NodeJS.Signals): void;
  /**
   * SIGTERM, then SIGKILL past a deadline. Resolves when it and its stubs are gone, and their
   * shared memory with them.
   */
  terminate(): Promise<void>;
}

let runCount = 0;

/**
 * Starts `tritonserver` and returns at once. It ends with this process, too.
 *
 * @throws Error when the venv is not set up.
 */
export function spawnTriton(options: TritonProcessOptions): TritonProcess {
  const { clock } = options;
  const venv = tritonVenv();
  // In the name of each stub's shared memory and so in its command line: whatever carries it is
  // ours to clean up.
  const mark = `bge-test-${process.pid}-${runCount++}-`;
  const logDirectory = mkdtempSync(join(tmpdir(), 'triton-log-'));
  const logFile = join(logDirectory, 'server.log');
  const log = openSync(logFile, 'w');
  const child = Bun.spawn(
    [
      ...parentDeathPrefix(),
      venv.tritonserver,
      ...tritonArguments(options, options.backends ?? venv.backends),
      `--backend-config=python,shm-region-prefix-name=${mark}`,
      ...options.extraArguments,
    ],
    { stdin: 'ignore', stdout: log, stderr: log, env: { ...venv.environment } },
  );
  closeSync(log);

  const endedAs = () => {
    if (child.signalCode !== null) return String(child.signalCode);
    return child.exitCode === null ? undefined : `code ${child.exitCode}`;
  };
  let finalLogs: string | undefined;
  const logs = () => finalLogs ?? readFileSync(logFile, 'utf8');
  let terminated: Promise<void> | undefined;
  const terminate = async () => {
    child.kill('SIGTERM');
    // A process that a test stopped with SIGSTOP takes no SIGTERM until it goes on.
    child.kill('SIGCONT');
    const cancel = clock.schedule(STOP_MS_MAX, () => child.kill('SIGKILL'));
    await child.exited;
    cancel();
    await endStubs(mark, clock);
    removeSharedMemory(mark);
    finalLogs = logs();
    rmSync(logDirectory, { recursive: true, force: true });
  };

  return {
    pid: child.pid,
    endedAs,
    ended: child.exited.then((code) => endedAs() ?? `code ${code}`),
    logs,
    signal: (name) => child.kill(name),
    terminate: () => {
      terminated ??= terminate();
      return terminated;
    },
  };
}

/**
 * Makes the kernel end Triton when the thread that started it ends, however that ends. Part of
 * util-linux.
 */
function parentDeathPrefix(): string[] {
  const setpriv = Bun.which('setpriv');
  return setpriv === null ? [] : [setpriv, '--pdeathsig', 'TERM', '--'];
}

function tritonArguments(options: TritonProcessOptions, backends: string): string[] {
  const { ports, repository } = options;
  return [
    `--model-repository=${repository}`,
    `--backend-directory=${backends}`,
    '--http-address=127.0.0.1',
    `--http-port=${ports.http}`,
    '--grpc-address=127.0.0.1',
    `--grpc-port=${ports.grpc}`,
    '--metrics-address=127.0.0.1',
    `--metrics-port=${ports.metrics}`,
    '--allow-gpu-metrics=false',
    // Starts in 0.2 s instead of 1.4 s: no trial start of each model to fill in what its
    // configuration leaves out.
    '--disable-auto-complete-config',
    `--exit-timeout-secs=${EXIT_TIMEOUT_SECONDS}`,
  ];
}

/** Waits until no stub with `mark` is left; kills those that outstay. */
async function endStubs(mark: string, clock: Clock): Promise<void> {
  const deadline = clock.now() + STUB_EXIT_MS_MAX;
  for (let pids = stubPids(mark); pids.length > 0; pids = stubPids(mark)) {
    if (clock.now() > deadline) for (const pid of pids) process.kill(pid, 'SIGKILL');
    await sleep(clock, POLL_MS);
  }
}

/** Processes whose command line carries `mark`. */
function stubPids(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => commandLine(pid).includes(mark))
    .map(Number);
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It ended since the listing.
    return '';
  }
}

/** A stub that was killed leaves a megabyte there for ever. */
function removeSharedMemory(mark: string): void {
  for (const name of readdirSync('/dev/shm')) {
    if (name.startsWith(mark)) rmSync(join('/dev/shm', name), { force: true });
  }
}
