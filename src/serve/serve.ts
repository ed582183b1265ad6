import packageJson from '../../package.json';
import { sleep, systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { ConfigError } from '../config/read.ts';
import type { Config } from '../config/settings.ts';
import { loadManifest } from '../model/manifest.ts';
import { createApp } from './app.ts';
import { EXIT, exit, exitOnKnown, orExit, say } from './exit-status.ts';
import { listen } from './listen.ts';
import { createParts, type LiveParts } from './parts.ts';
import { createSibling, processChannel, type Sibling } from './processes/sibling.ts';

/** How often a server that drains is looked at, in ms: Bun tells nobody of a reply's last byte. */
const DRAIN_POLL_MS = 5;

/** How long the replies that the end of the parts causes may take to leave, in ms. */
const LAST_REPLIES_MS = 50;

/**
 * Builds the parts, listens, and drains on a signal.
 *
 * @param options.index which of several processes this one is; undefined when it is the only one.
 */
export async function serve(options: {
  config: Config;
  log: Log;
  index: number | undefined;
}): Promise<void> {
  const { config, log, index } = options;
  const { modelsDir, model } = config;
  const manifest = await loadManifest({ modelsDir, name: model }).catch(exitOnKnown);
  const parts = await createParts({ config, manifest, clock: systemClock, log }).catch((error) =>
    exit(EXIT.backend, (error as Error).message),
  );
  const sibling = index === undefined ? undefined : joinOthers(index, parts, log);
  const { version } = packageJson;
  const app = orExit(() => createApp({ parts, config, version, log, siblings: sibling }));
  const address = await listen(app, config).catch((error) => {
    if (error instanceof ConfigError) exitOnKnown(error);
    const where = config.unixSocket || `${config.host}:${config.port}`;
    const setting = config.unixSocket === '' ? 'PORT' : 'UNIX_SOCKET';
    exit(EXIT.port, `Cannot listen on ${where}: ${error.message}. Choose another ${setting}.`);
  });
  const draining = drainOnSignal({ server: app.server, parts, config, log, sibling });
  const { title, dimension } = manifest;
  const banner = `${title} (${dimension} dimensions) on ${config.backend}, ${address}`;
  if (sibling === undefined) say(banner);
  else sibling.tellListening(banner);
  await tellWhenReady(parts, draining, log);
  sibling?.tellStarted();
}

function joinOthers(index: number, parts: LiveParts, log: Log): Sibling {
  const sibling = createSibling({ index, channel: processChannel, clock: systemClock, log });
  sibling.count(parts.metrics.numbers);
  return sibling;
}

/** Says so when the first start has worked, and ends the process when it never can. */
async function tellWhenReady(parts: LiveParts, draining: AbortSignal, log: Log): Promise<void> {
  await parts.started;
  // What is closed while it starts is not ready either; that is no failure.
  if (draining.aborted) return;
  const { isReady, reason } = parts.backend.state();
  if (parts.backend.name === 'embedded' && !isReady) exit(EXIT.backend, reason);
  if (parts.tokenizer.reason !== '') exit(EXIT.backend, parts.tokenizer.reason);
  log.info('started', { model: parts.manifest.id, backend: parts.backend.name, ready: isReady });
}

/** What Bun tells of a running server; null before it listens. */
type Server = ReturnType<typeof createApp>['server'];

/**
 * The first signal drains: no new work, the admitted is finished, and its replies leave. A second
 * one ends the process at once; one of several processes leaves that to the supervisor, since a
 * terminal and systemd signal them all while it does so too. It also drains when its supervisor is
 * gone.
 *
 * @returns aborted from the first signal on.
 */
function drainOnSignal(running: {
  server: Server;
  parts: LiveParts;
  config: Config;
  log: Log;
  sibling: Sibling | undefined;
}): AbortSignal {
  const { server, parts, config, log, sibling } = running;
  const draining = new AbortController();
  const onSignal = async (signal: string): Promise<void> => {
    if (draining.signal.aborted) {
      if (sibling === undefined) process.exit(EXIT.killed);
      return;
    }
    draining.abort();
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
    process.exit(EXIT.drained);
  };
  process.on('SIGTERM', () => void onSignal('SIGTERM'));
  process.on('SIGINT', () => void onSignal('SIGINT'));
  if (sibling !== undefined) process.on('disconnect', () => void onSignal('supervisor gone'));
  return draining.signal;
}

/**
 * Resolves when the system has the last byte of each reply. Requests that are still arriving count
 * too: their callers are told that the server ends.
 */
async function repliesLeft(server: Server): Promise<void> {
  while (server !== null && server.pendingRequests > 0) await sleep(systemClock, DRAIN_POLL_MS);
}
