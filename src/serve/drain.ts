import { sleep, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/settings.ts';
import type { Ending } from '../http/context.ts';
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
  readonly config: Pick<Config, 'shutdownDelayMs' | 'drainTimeoutMs'>;
  /** What the application reads of it. */
  readonly ending: { -readonly [Name in keyof Ending]: Ending[Name] };
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
  // Who has no supervisor any more waits for no balancer.
  const { promise: abandoned, resolve: abandon } = Promise.withResolvers<void>();
  const onSignal = async (signal: string): Promise<void> => {
    if (draining.signal.aborted) {
      if (!running.isSupervised) process.exit(EXIT.killed);
      return;
    }
    draining.abort();
    await drain(running, signal, abandoned);
    process.exit(EXIT.drained);
  };
  process.on('SIGTERM', () => void onSignal('SIGTERM'));
  process.on('SIGINT', () => void onSignal('SIGINT'));
  if (running.isSupervised) {
    process.on('disconnect', () => {
      abandon();
      void onSignal('supervisor gone');
    });
  }
  return draining.signal;
}

/**
 * 1. `/ready` says 503, and connections end with their reply. All else goes on for
 *    SHUTDOWN_DELAY_MS: a balancer sends until it has looked, and until all its parts have heard.
 *    SIGINT comes from a terminal, where nobody balances: it skips this.
 * 2. No new connections, and no new work.
 * 3. Admitted work is finished and its replies leave, for at most DRAIN_TIMEOUT_MS.
 * 4. The parts end; what still waits for them is told EMB_SHUTTING_DOWN.
 */
async function drain(running: Running, signal: string, abandoned: Promise<void>): Promise<void> {
  const { server, parts, config, ending, log } = running;
  const delayMs = signal === 'SIGTERM' ? config.shutdownDelayMs : 0;
  ending.isAnnounced = true;
  log.info('draining', { signal, texts: admittedTextCount(parts), delayMs });
  await Promise.race([sleep(systemClock, delayMs), abandoned]);
  // What it returns waits for connections that ask for nothing too, so nobody waits for it.
  void server?.stop();
  const { admission, backgroundAdmission } = parts;
  const done = Promise.all([admission.close(), backgroundAdmission.close()]);
  const finished = done.then(() => repliesLeft(server));
  const late = sleep(systemClock, config.drainTimeoutMs).then(() => 'late');
  if ((await Promise.race([finished, late])) === 'late') {
    const replies = server?.pendingRequests;
    log.warn('drain-cut-short', { texts: admittedTextCount(parts), replies });
  }
  ending.isCut = true;
  await parts.close();
  await Promise.race([repliesLeft(server), sleep(systemClock, LAST_REPLIES_MS)]);
}

function admittedTextCount({ admission, backgroundAdmission }: LiveParts): number {
  return admission.admittedTextCount + backgroundAdmission.admittedTextCount;
}

/**
 * Resolves when the system has the last byte of each reply. Requests that are still arriving count
 * too: their callers are told that the server ends.
 */
async function repliesLeft(server: Server): Promise<void> {
  while (server !== null && server.pendingRequests > 0) await sleep(systemClock, DRAIN_POLL_MS);
}
