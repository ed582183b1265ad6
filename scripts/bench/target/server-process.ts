import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

/** This checkout. */
export const ROOT = join(import.meta.dir, '../../..');

/**
 * A server is ready in a second or two; compiling a tokenizer or loading a large model takes
 * longer.
 */
const READY_MS_MAX = 60_000;
/** It drains in less than this: the bench stops it when nothing is under way. */
const STOP_MS_MAX = 15_000;
const POLL_MS = 20;

/** A server in a process of its own, as an operator starts it. */
export interface ServerProcess {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly pid: number;
  /** What it wrote to standard error. */
  log(): string;
  /** Asks it to drain, and waits until it has ended. Calling it twice is harmless. */
  stop(): Promise<void>;
}

/**
 * Starts `bun src/main.ts` on a free port of the loopback and waits until it is ready.
 *
 * @param options.environment its settings; nothing but these and PATH reaches it.
 * @param options.root the checkout whose server it is; this one, unless told.
 * @param options.profileDir makes it write a processor and a heap profile there when it ends.
 * @throws Error with what it said, when it ends early or is not ready in time.
 */
export async function startServerProcess(options: {
  environment: Readonly<Record<string, string>>;
  root?: string;
  profileDir?: string | undefined;
}): Promise<ServerProcess> {
  const { environment, profileDir, root = ROOT } = options;
  if (profileDir !== undefined) mkdirSync(profileDir, { recursive: true });
  const child = Bun.spawn(
    [process.execPath, ...profileFlags(profileDir), join(root, 'src/main.ts')],
    {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH ?? '',
        HOST: '127.0.0.1',
        PORT: '0',
        SERVER_TIMING: 'on',
        ...environment,
      },
    },
  );
  let log = '';
  const reading = readInto(child.stderr, (text) => {
    log += text;
  });
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
    await child.exited;
    clearTimeout(timer);
    await reading;
  };
  try {
    const url = await untilReady(
      () => log,
      () => child.exitCode !== null,
    );
    return { url, pid: child.pid, log: () => log, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function profileFlags(profileDir: string | undefined): readonly string[] {
  if (profileDir === undefined) return [];
  return [
    ...['--cpu-prof', '--cpu-prof-md', `--cpu-prof-dir=${profileDir}`],
    ...['--heap-prof', '--heap-prof-md', `--heap-prof-dir=${profileDir}`],
  ];
}

async function untilReady(log: () => string, hasEnded: () => boolean): Promise<string> {
  const deadlineMs = performance.now() + READY_MS_MAX;
  for (;;) {
    const port = /^[^{\n]*http:\/\/[^\s/]+:(\d+)/m.exec(log())?.[1];
    const url = `http://127.0.0.1:${port}`;
    if (port !== undefined && (await isReady(url))) return url;
    if (hasEnded()) throw new Error(`The server ended before it was ready:\n${lastLines(log())}`);
    if (performance.now() > deadlineMs) {
      throw new Error(`The server was not ready within ${READY_MS_MAX} ms:\n${lastLines(log())}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/ready`, { keepalive: false })).ok;
  } catch {
    return false;
  }
}

async function readInto(
  stream: ReadableStream<Uint8Array>,
  take: (text: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) take(decoder.decode(chunk, { stream: true }));
}

function lastLines(text: string): string {
  return text.trimEnd().split('\n').slice(-10).join('\n');
}
