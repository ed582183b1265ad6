import { join } from 'node:path';
import { until } from '../until.ts';

const ROOT = join(import.meta.dir, '../../..');

/** The real server, in a process of its own. Whoever started it ends it. */
export interface ServerProcess {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly pid: number;
  /** Standard error so far: the banner, then the log. */
  stderr(): string;
  signal(name: NodeJS.Signals): void;
  /** Exit status, once it has ended. */
  readonly exited: Promise<number>;
}

/** A server that ended by itself. */
export interface EndedProcess {
  readonly status: number;
  readonly stderr: string;
}

/**
 * Starts `bun src/main.ts` on a free port and waits for its banner. The environment of the tests
 * does not leak in.
 *
 * @throws Error with what it said, when it ends before it listens.
 */
export async function startProcess(environment: Record<string, string>): Promise<ServerProcess> {
  const { child, stderr } = spawn({ PORT: '0', ...environment });
  // In the banner: a line of the log may hold another.
  const address = /^[^{\n]*(https?:\/\/127\.0\.0\.1:\d+)/m;
  await until('the server says where it listens', () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${stderr()}`);
    return address.test(stderr());
  });
  return {
    url: address.exec(stderr())?.[1] ?? '',
    pid: child.pid,
    stderr,
    signal: (name) => child.kill(name),
    exited: child.exited,
  };
}

/** Runs `bun src/main.ts` until it ends by itself. */
export async function runCommandSync(environment: Record<string, string>): Promise<EndedProcess> {
  const { child, stderr, closed } = spawn({ PORT: '0', ...environment });
  const status = await child.exited;
  await closed;
  return { status, stderr: stderr() };
}

function spawn(environment: Record<string, string>) {
  const child = Bun.spawn([process.execPath, 'src/main.ts'], {
    cwd: ROOT,
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'pipe',
    env: {
      PATH: process.env.PATH ?? '',
      HOST: '127.0.0.1',
      // No test stands behind a balancer unless it says so.
      SHUTDOWN_DELAY_MS: '0',
      ...environment,
    },
  });
  let said = '';
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) said += decoder.decode(chunk, { stream: true });
  };
  return { child, stderr: () => said, closed: read() };
}
