import { sleep, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/settings.ts';
import type { createApp } from './app.ts';
import { EXIT } from './exit-status.ts';
import type { LiveParts } from './parts.ts';

/** How often a server that drains is looked at, in ms: Bun tells nobody of a reply's last byte. */
const DRAIN_POLL_MS = 5;

/** How long the replies that the end of the parts causes may take to leave, in ms. */
const LAST_REPLIES_MS = 50;

/** What Bun tells of a running server; null before it listens. */
type Server = ReturnType<typeof createApp>['server'];

/** What a drain ends. */
interface Running {
  readonly server: Server;
  readonly parts: LiveParts;
  readonly config: Pick<Config, 'drainTimeoutMs'>;
  readonly log: Log;
  /** Whether a supervisor started this process as one of several. */
  readonly isSupervised: boolean;
}

/**
 * Drains on the first SIGTERM or SIGINT. A second one ends the process at once; one of several
 * processes leaves that to its supervisor, since a terminal and systemd signal all of them while
 * the supervisor does so too. A supervised process also drains when its supervisor is gone.
 *
 * @returns aborted from the first signal on.
 */
export function drainOnSignal(running: Running): AbortSignal {
  const draining = new AbortController();
  const onSignal = async (signal: string): Promise<void> => {
    if (draining.signal.aborted) {
      if (!running.isSupervised) process.exit(EXIT.killed);
      return;
    }
    draining.abort();
    await drain(running, signal);
    process.exit(EXIT.drained);
  };
  process.on('SIGTERM', () => void onSignal('SIGTERM'));
  process.on('SIGINT', () => void onSignal('SIGINT'));
  if (running.isSupervised) process.on('disconnect', () => void onSignal('supervisor gone'));
  return draining.signal;
}

/**
 * 1. No new connections, and no new work.
 * 2. Admitted work is finished and its replies leave, for at most DRAIN_TIMEOUT_MS.
 * 3. The parts end; what still waits for them is told EMB_SHUTTING_DOWN.
 */
async function drain({ server, parts, config, log }: Running, signal: string): Promise<void> {
  log.info('draining', { signal, texts: parts.admission.admittedTextCount });
  // What it returns waits for connections that ask for nothing too, so nobody waits for it.
  void server?.stop();
  const finished = parts.admission.close().then(() => repliesLeft(server));
  const late = sleep(systemClock, config.drainTimeoutMs).then(() => 'late');
  if ((await Promise.race([finished, late])) === 'late') {
    const replies = server?.pendingRequests;
    log.warn('drain-cut-short', { texts: parts.admission.admittedTextCount, replies });
  }
  await parts.close();
  await Promise.race([repliesLeft(server), sleep(systemClock, LAST_REPLIES_MS)]);
}

/**
 * Resolves when the system has the last byte of each reply. Requests that are still arriving count
 * too: their callers are told that the server ends.
 */
async function repliesLeft(server: Server): Promise<void> {
  while (server !== null && server.pendingRequests > 0) await sleep(systemClock, DRAIN_POLL_MS);
}
