import packageJson from '../../package.json';
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { ConfigError } from '../config/read.ts';
import type { Config } from '../config/settings.ts';
import { loadManifest } from '../model/manifest.ts';
import { createApp } from './app.ts';
import { drainOnSignal } from './drain.ts';
import { EXIT, exit, exitOnKnown, orExit, say } from './exit-status.ts';
import { listen, listenFailure } from './listen.ts';
import { createParts, type LiveParts } from './parts.ts';
import {
  createSupervisorChannel,
  parentMessages,
  type SupervisorChannel,
} from './processes/supervisor-channel.ts';

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
  const channel = index === undefined ? undefined : joinOthers(index, parts, log);
  const { version } = packageJson;
  const ending = { isAnnounced: false, isCut: false };
  const app = orExit(() => createApp({ parts, config, version, log, siblings: channel, ending }));
  const address = await listen(app, config).catch(async (error) => {
    if (error instanceof ConfigError) exitOnKnown(error);
    return exit(EXIT.port, await listenFailure(error, config));
  });
  const draining = drainOnSignal({
    server: app.server,
    parts,
    config,
    ending,
    log,
    isSupervised: channel !== undefined,
  });
  const { title, dimension } = manifest;
  const banner = `${title} (${dimension} dimensions) on ${config.backend}, ${address}`;
  if (channel === undefined) say(banner);
  else channel.tellListening(banner);
  await tellWhenReady(parts, draining, log);
  channel?.tellStarted();
}

function joinOthers(index: number, parts: LiveParts, log: Log): SupervisorChannel {
  const clock = systemClock;
  const channel = createSupervisorChannel({ index, parent: parentMessages, clock, log });
  channel.count(parts.metrics.numbers);
  return channel;
}

/** Says so when the first start has worked, and ends the process when it never can. */
async function tellWhenReady(parts: LiveParts, draining: AbortSignal, log: Log): Promise<void> {
  const failure = await parts.started;
  // What is closed while it starts is not ready either; that is no failure.
  if (draining.aborted) return;
  if (failure !== '') exit(EXIT.backend, failure);
  const { backend, manifest } = parts;
  const ready = backend.state().isReady;
  log.info('started', { model: manifest.id, backend: backend.name, ready });
}
