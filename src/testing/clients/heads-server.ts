import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Head } from '../../vectors/output.ts';
import { SMALL_MODEL, writeModelsFolder } from '../golden/small-heads-harness.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * A whole server with a small model that has all three heads, inside this process; for scripts as
 * well as tests. Ready when it is returned.
 *
 * @param environment settings as their variables.
 * @param options.heads those of the model; all three unless told.
 * @param options.fetch how it is asked whether it is ready, where that takes more than its address.
 */
export async function startHeadsServer(
  environment: Readonly<Record<string, string>> = {},
  options: {
    readonly heads?: readonly Head[];
    /** Fields of the manifest in place of its own. */
    readonly manifest?: Readonly<Record<string, unknown>>;
    readonly fetch?: (url: string) => Promise<Response>;
  } = {},
): Promise<RunningServer> {
  const { heads, manifest, fetch: ask = fetch } = options;
  const modelsDir = mkdtempSync(join(tmpdir(), 'heads-server-'));
  await writeModelsFolder(modelsDir, heads, manifest);
  const server = await startServer({
    BACKEND: 'embedded',
    MODEL: SMALL_MODEL,
    MODELS_DIR: modelsDir,
    TOKENIZER_WORKERS: '1',
    EMBEDDED_SLOTS: '1',
    ...environment,
  });
  await until('the server is ready', async () => (await ask(`${server.url}/ready`)).ok);
  return {
    ...server,
    async close() {
      await server.close();
      rmSync(modelsDir, { recursive: true, force: true });
    },
  };
}
