import packageJson from '../package.json';
import { createApp } from './app.ts';
import { sleep, systemClock } from './base/clock.ts';
import { createLog, type Log } from './base/log.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { listen } from './listen.ts';
import { loadManifest } from './model/manifest.ts';
import { ManifestError } from './model/manifest-field.ts';
import { createParts, type LiveParts } from './parts.ts';

/** Exit statuses, as the README lists them. */
const EXIT = { drained: 0, settings: 2, port: 3, backend: 4, killed: 130 } as const;

/** How often a server that drains is looked at, in ms: Bun tells nobody of a reply's last byte. */
const DRAIN_POLL_MS = 5;

/** How long the replies that the end of the parts causes may take to leave, in ms. */
const LAST_REPLIES_MS = 50;

// A log that cannot be written, on a full disk for instance, must not end the server.
process.stderr.on('error', () => undefined);

await main();

async function main(): Promise<void> {
  const config = orExit(() => readConfig(process.env));
  const log = createLog({ level: config.logLevel, write: (line) => process.stderr.write(line) });
  const { modelsDir, model } = config;
  const manifest = await loadManifest({ modelsDir, name: model }).catch(exitOnKnown);
  const parts = await createParts({ config, manifest, clock: systemClock, log }).catch((error) =>
    exit(EXIT.backend, (error as Error).message),
  );
  const app = orExit(() => createApp({ parts, config, version: packageJson.version, log }));
  const address = await listen(app, config).catch((error) => {
    exitOnConfig(error);
    const where = config.unixSocket || `${config.host}:${config.port}`;
    const setting = config.unixSocket === '' ? 'PORT' : 'UNIX_SOCKET';
    exit(EXIT.port, `Cannot listen on ${where}: ${error.message}. Choose another ${setting}.`);
  });
  say(`${manifest.title} (${manifest.dimension} dimensions) on ${config.backend}, ${address}`);
  const draining = drainOnSignal({ server: app.server, parts, config, log });
  await tellWhenReady(parts, draining, log);
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
 * one ends the process at once.
 *
 * @returns aborted from the first signal on.
 */
function drainOnSignal(running: {
  server: Server;
  parts: LiveParts;
  config: Config;
  log: Log;
}): AbortSignal {
  const { server, parts, config, log } = running;
  const draining = new AbortController();
  const onSignal = async (signal: string): Promise<void> => {
    if (draining.signal.aborted) process.exit(EXIT.killed);
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
  return draining.signal;
}

/**
 * Resolves when the system has the last byte of each reply. Requests that are still arriving count
 * too: their callers are told that the server ends.
 */
async function repliesLeft(server: Server): Promise<void> {
  while (server !== null && server.pendingRequests > 0) await sleep(systemClock, DRAIN_POLL_MS);
}

function orExit<Value>(make: () => Value): Value {
  try {
    return make();
  } catch (error) {
    return exitOnKnown(error);
  }
}

function exitOnKnown(error: unknown): never {
  exitOnConfig(error);
  throw error;
}

function exitOnConfig(error: unknown): void {
  if (error instanceof ConfigError || error instanceof ManifestError) {
    exit(EXIT.settings, error.message);
  }
}

function exit(status: number, message: string): never {
  say(message);
  process.exit(status);
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}
