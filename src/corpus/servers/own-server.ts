import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { directFetch } from '../../base/direct-fetch.ts';
import { type ClientClock, pause } from '../../client/cancellation.ts';
import { CorpusError } from '../corpus-error.ts';
import type { ServerAddress } from './server-fleet.ts';

/** A server that this job started for itself. Whoever started it closes it. */
export interface OwnServer extends ServerAddress {
  readonly pid: number;
  close(): Promise<void>;
}

/** Between two looks whether it is ready, in ms. */
const LOOK_MS = 50;
/** How long it may take to load its model, in ms. */
const START_MS_MAX = 120_000;
/** A server that ends so often, without an answer in between, will not do. */
const RESTARTS_MAX = 5;
/** Of what it says, the end is kept for when it dies. */
const SAID_CHARACTERS = 2000;

/**
 * Starts a server of our own on a socket that only this user can reach. It is started again when it
 * ends, and it ends when we do, however that happens.
 *
 * @param options.entry the program's file.
 * @throws CorpusError CORPUS_SERVER_FAILED with its own words.
 */
export async function startOwnServer(options: {
  entry: string;
  environment: Readonly<Record<string, string | undefined>>;
  clock: ClientClock;
  signal: AbortSignal;
}): Promise<OwnServer> {
  const { entry, environment, clock, signal } = options;
  const folder = await mkdtemp(join(tmpdir(), 'embed-'));
  let startedCount = 0;
  let current = start();
  let reviving: Promise<void> | undefined;

  function start(): RunningServer {
    const socket = join(folder, `${startedCount++}.sock`);
    return spawnServer({ entry, environment, socket });
  }
  async function untilReady(): Promise<void> {
    const endMs = clock.now() + START_MS_MAX;
    for (;;) {
      signal.throwIfAborted();
      const status = current.endedAs();
      // A status is its own word: a setting is wrong, or the model. A signal is somebody else's.
      if (typeof status === 'number') throw failed(`it ended with ${status}: ${current.said()}`);
      if (status === 'killed') {
        if (startedCount > RESTARTS_MAX) throw failed('it was killed again and again');
        current.release();
        current = start();
      }
      if (await isReady(current.socket)) return;
      if (clock.now() > endMs) throw failed(`it was not ready within ${START_MS_MAX} ms`);
      await pause({ clock, delayMs: LOOK_MS, signal });
    }
  }
  const close = async (): Promise<void> => {
    await current.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await untilReady();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    url: 'http://localhost',
    get pid() {
      return current.pid;
    },
    fetch: async (url, init) => {
      const reply = await directFetch(url, { ...init, unix: current.socket } as RequestInit);
      // It works: whatever ended it before is over.
      if (reply.ok) startedCount = 1;
      return reply;
    },
    // Requests that failed together bring it back together.
    revive: () => {
      reviving ??= untilReady().finally(() => {
        reviving = undefined;
      });
      return reviving;
    },
    close,
  };
}

/** What is set for a server that others reach must not stand between us and ours. */
const OWN_SETTINGS = {
  SERVER_PROCESSES: '1',
  API_KEYS: '',
  API_KEYS_FILE: '',
  TLS_CERT: '',
  TLS_KEY: '',
} as const;

/** Ends the server and removes the folder of its socket, once nobody else can. */
const GUARD = 'read -r _; kill -KILL "$1"; rm -f "$2"/*.sock; rmdir "$2"';

interface RunningServer {
  readonly pid: number;
  readonly socket: string;
  /** Undefined while it runs. */
  endedAs(): number | 'killed' | undefined;
  said(): string;
  /** Lets go of what guards it; it has ended. */
  release(): void;
  stop(): Promise<void>;
}

function spawnServer(options: {
  entry: string;
  environment: Readonly<Record<string, string | undefined>>;
  socket: string;
}): RunningServer {
  const { entry, environment, socket } = options;
  const child = Bun.spawn([process.execPath, entry], {
    // Its settings name files from the program's own folder.
    cwd: join(dirname(entry), '..'),
    env: { LOG_LEVEL: 'warn', ...environment, ...OWN_SETTINGS, UNIX_SOCKET: socket },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // Its pipe closes when we are gone, also by a signal that nobody can catch.
  const guard = Bun.spawn(['sh', '-c', GUARD, 'guard', String(child.pid), dirname(socket)], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  let said = '';
  const listen = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) {
      said = (said + decoder.decode(chunk, { stream: true })).slice(-SAID_CHARACTERS);
    }
  };
  void listen();
  return {
    pid: child.pid,
    socket,
    endedAs: () => (child.signalCode === null ? (child.exitCode ?? undefined) : 'killed'),
    said: () => said.trim() || 'it said nothing',
    release: () => guard.kill('SIGKILL'),
    async stop() {
      guard.kill('SIGKILL');
      child.kill('SIGKILL');
      await child.exited;
    },
  };
}

async function isReady(socket: string): Promise<boolean> {
  try {
    return (await directFetch('http://localhost/ready', { unix: socket } as RequestInit)).ok;
  } catch {
    return false;
  }
}

function failed(why: string): CorpusError {
  return new CorpusError('CORPUS_SERVER_FAILED', `The server that was started failed: ${why}.`);
}
