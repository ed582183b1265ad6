import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { directFetch } from '../../base/direct-fetch.ts';
import { type ClientClock, pause, runWithin } from '../../client/cancellation.ts';
import { CorpusError } from '../corpus-error.ts';
import type { ServerAddress } from './server-fleet.ts';

/** A server that this job started for itself. Whoever started it closes it. */
export interface OwnServer extends ServerAddress {
  readonly pid: number;
  close(): Promise<void>;
}

/** Between two looks whether it is ready, in ms. */
const LOOK_MS = 50;
/** How long an answer to that may take, in ms. */
const ANSWER_MS = 2000;

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
  const folder = join(tmpdir(), `embed-${crypto.randomUUID().slice(0, 8)}`);
  // Before there is anything that would be left of us.
  const guard = guardFolder(folder);
  let startedCount = 0;
  let current = start();
  let reviving: Promise<void> | undefined;

  function start(): RunningServer {
    const socket = join(folder, `${startedCount++}.sock`);
    return spawnServer({ entry, environment, socket, guard });
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
        current = start();
      }
      if (await isReady(current.socket, clock, signal)) return;
      if (clock.now() > endMs) throw failed(`it was not ready within ${START_MS_MAX} ms`);
      await pause({ clock, delayMs: LOOK_MS, signal });
    }
  }
  const close = async (): Promise<void> => {
    await current.stop();
    await guard.close();
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

/**
 * Reads the server's process id, the newest counts, until we are gone; then ends it and removes the
 * folder of its socket. Ctrl-C on a terminal must not end it before us. A server that is killed may
 * be about to make its socket, so it looks again.
 */
const GUARD = `trap '' HUP INT TERM
pid=
while read -r line; do pid=$line; done
[ -z "$pid" ] || kill -KILL "$pid"
for _ in 1 2 3; do
  rm -f "$1"/*.sock
  rmdir "$1" || [ ! -d "$1" ] && break
  sleep 1
done`;

/** Becomes the server once it is told to; never, where we are gone before. */
const GATE = 'read -r _ && exec "$@" </dev/null';

/** A process that outlives us, whatever ends us, and leaves nothing of ours behind. */
interface Guard {
  watch(pid: number): Promise<void>;
  /** The server has ended; the folder is gone when this has settled. */
  close(): Promise<void>;
}

/** Starts one, and makes the folder that it will remove. */
function guardFolder(folder: string): Guard {
  // Its pipe closes when we are gone, also by a signal that nobody can catch.
  const { stdin, exited } = Bun.spawn(['sh', '-c', GUARD, 'guard', folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const tell = async (line: string): Promise<void> => {
    try {
      stdin.write(`${line}\n`);
      await stdin.flush();
    } catch {
      // Somebody has ended it. That is no reason to end the job.
    }
  };
  const close = async (): Promise<void> => {
    await tell('');
    await Promise.try(() => stdin.end()).catch(() => undefined);
    await exited;
  };
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    void close();
    throw error;
  }
  return { watch: (pid) => tell(String(pid)), close };
}

interface RunningServer {
  readonly pid: number;
  readonly socket: string;
  /** Undefined while it runs. */
  endedAs(): number | 'killed' | undefined;
  said(): string;
  stop(): Promise<void>;
}

function spawnServer(options: {
  entry: string;
  environment: Readonly<Record<string, string | undefined>>;
  socket: string;
  guard: Guard;
}): RunningServer {
  const { entry, environment, socket, guard } = options;
  const child = Bun.spawn(['sh', '-c', GATE, 'gate', process.execPath, entry], {
    // Its settings name files from the program's own folder.
    cwd: join(dirname(entry), '..'),
    env: { LOG_LEVEL: 'warn', ...environment, ...OWN_SETTINGS, UNIX_SOCKET: socket },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  const begin = async (): Promise<void> => {
    await guard.watch(child.pid);
    child.stdin.write('\n');
    await child.stdin.end();
  };
  // One that was killed meanwhile takes no word; that it has ended is seen.
  begin().catch(() => undefined);
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
    async stop() {
      child.kill('SIGKILL');
      await child.exited;
    },
  };
}

/** One that takes the connection and hangs is not ready either. */
async function isReady(socket: string, clock: ClientClock, parent: AbortSignal): Promise<boolean> {
  try {
    return await runWithin({ clock, totalTimeoutMs: ANSWER_MS, parent }, async ({ signal }) => {
      const init = { unix: socket, signal } as RequestInit;
      return (await directFetch('http://localhost/ready', init)).ok;
    });
  } catch {
    return false;
  }
}

function failed(why: string): CorpusError {
  return new CorpusError('CORPUS_SERVER_FAILED', `The server that was started failed: ${why}.`);
}
