import { stayAlive, systemClock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Environment } from '../../config/fit.ts';
import type { Config } from '../../config/settings.ts';
import { EXIT, exit, say } from '../exit-status.ts';
import { listenFailure } from '../listen.ts';
import { createStartProcess } from './process-handle.ts';
import { createSupervisor } from './supervisor.ts';

/** What a process may take beyond its own drain, in ms: to close its parts, and to end. */
const AFTER_DRAIN_MS = 5000;

/**
 * Runs the server as `SERVER_PROCESSES` processes until they have ended.
 *
 * @param options.entry the program's file.
 * @param options.environment handed to each process.
 * @returns the exit status of the whole.
 */
export async function supervise(options: {
  entry: string;
  environment: Environment;
  config: Config;
  log: Log;
}): Promise<number> {
  const { config, log } = options;
  const { serverProcesses: count } = config;
  const port = await findPort(config).catch(async (error: Error) =>
    exit(EXIT.port, await listenFailure(error, config)),
  );
  const release = stayAlive();
  const supervisor = createSupervisor({
    count,
    startProcess: createStartProcess({ ...options, port }),
    restartsMax: config.workerRestartsMax,
    startMsMax: config.workerStartMs,
    drainMsMax: config.shutdownDelayMs + config.drainTimeoutMs + AFTER_DRAIN_MS,
    clock: systemClock,
    log,
    onListening: (banner) => say(`${banner}, ${count} processes`),
  });
  process.on('SIGTERM', () => supervisor.onSignal('SIGTERM'));
  process.on('SIGINT', () => supervisor.onSignal('SIGINT'));
  return await supervisor.ended.finally(release);
}

/**
 * Takes the port alone for a moment, and lets go of it. With `reusePort` the processes would share
 * it with whoever else of this user does so, and nobody would know; and of a zero each would make
 * another port.
 *
 * @throws Error when it is taken, or the address is not ours.
 */
async function findPort({ host, port }: Config): Promise<number> {
  const server = Bun.serve({
    hostname: host,
    port,
    reusePort: false,
    fetch: () => new Response(null, { status: 503 }),
  });
  const found = server.port ?? port;
  await server.stop(true);
  return found;
}
