import packageJson from '../package.json';
import { createApp } from './app.ts';
import { systemClock } from './base/clock.ts';
import { createLog, type Log } from './base/log.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { listen } from './listen.ts';
import { loadManifest } from './model/manifest.ts';
import { ManifestError } from './model/manifest-field.ts';
import { createParts, type LiveParts } from './parts.ts';

/** Exit statuses, as the README lists them. */
const EXIT = { drained: 0, settings: 2, port: 3, backend: 4, killed: 130 } as const;

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
  const draining = drainOnSignal({ stop: () => app.server?.stop(), parts, config, log });
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

/**
 * The first signal drains: no new work, the admitted is finished. A second one ends the process at
 * once.
 *
 * @returns aborted from the first signal on.
 */
function drainOnSignal(running: {
  stop: () => unknown;
  parts: LiveParts;
  config: Config;
  log: Log;
}): AbortSignal {
  const { parts, config, log } = running;
  const draining = new AbortController();
  const onSignal = async (signal: string): Promise<void> => {
    if (draining.signal.aborted) process.exit(EXIT.killed);
    draining.abort();
    log.info('draining', { signal, texts: parts.admission.admittedTextCount });
    running.stop();
    const late = new Promise((resolve) =>
      systemClock.schedule(config.drainTimeoutMs, () => resolve('late')),
    );
    if ((await Promise.race([parts.admission.close(), late])) === 'late') {
      log.warn('drain-cut-short', { texts: parts.admission.admittedTextCount });
    }
    await parts.close();
    // The last replies are still on their way from the handlers to the sockets.
    systemClock.schedule(50, () => process.exit(EXIT.drained));
  };
  process.on('SIGTERM', () => void onSignal('SIGTERM'));
  process.on('SIGINT', () => void onSignal('SIGINT'));
  return draining.signal;
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
