import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMALL_MODEL, writeModelsFolder } from '../golden/small-heads-stand.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * A whole server with a small model that has all three heads, inside this process; for scripts as
 * well as tests. Ready when it is returned.
 *
 * @param environment settings as their variables.
 */
export async function startHeadsServer(
  environment: Readonly<Record<string, string>> = {},
): Promise<RunningServer> {
  const modelsDir = mkdtempSync(join(tmpdir(), 'heads-server-'));
  writeModelsFolder(modelsDir);
  const server = await startServer({
    BACKEND: 'embedded',
    MODEL: SMALL_MODEL,
    MODELS_DIR: modelsDir,
    TOKENIZER_WORKERS: '1',
    EMBEDDED_SLOTS: '1',
    ...environment,
  });
  await until('the server is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  return {
    ...server,
    async close() {
      await server.close();
      rmSync(modelsDir, { recursive: true, force: true });
    },
  };
}
