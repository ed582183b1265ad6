import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { readConfig } from '../config/read.ts';
import type { Config } from '../config/settings.ts';
import { loadManifest } from '../model/manifest.ts';
import { createApp } from '../serve/app.ts';
import { listen } from '../serve/listen.ts';
import { createParts, type LiveParts } from '../serve/parts.ts';

const MODELS = join(import.meta.dir, '../../models');

/** A whole server inside the test's process, on a free port of the loopback. */
export interface RunningServer {
  /**
   * `http://127.0.0.1:port` without a slash at the end; `https://…` or `unix:/path` by settings.
   */
  readonly url: string;
  readonly config: Config;
  readonly parts: LiveParts;
  readonly routes: readonly { readonly method: string; readonly path: string }[];
  /** Every line that it logged, oldest first. */
  readonly logLines: readonly string[];
  close(): Promise<void>;
}

/**
 * Assembles the server as `main.ts` does and listens. Resolves once its workers have started;
 * whether its backend is ready is for the test to await.
 *
 * @param environment settings as their variables. What is not given has its default; all is logged.
 */
export async function startServer(environment: Record<string, string>): Promise<RunningServer> {
  const config = readConfig({ MODELS_DIR: MODELS, LOG_LEVEL: 'debug', ...environment });
  const logLines: string[] = [];
  const log = createLog({ level: config.logLevel, write: (line) => logLines.push(line) });
  const manifest = await loadManifest({ modelsDir: config.modelsDir, name: config.model });
  const parts = await createParts({ config, manifest, clock: systemClock, log });
  const app = createApp({ parts, config, version: '0.0.0-test', log });
  const url = await listen(app, { ...config, host: '127.0.0.1', port: 0 });
  await parts.started;
  return {
    url,
    config,
    parts,
    routes: app.routes,
    logLines,
    async close() {
      await app.server?.stop(true);
      await parts.close();
    },
  };
}
