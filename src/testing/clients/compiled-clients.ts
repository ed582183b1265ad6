import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ClientCase } from './client-case.ts';
import { startClientProcess } from './client-process.ts';

/**
 * Where the clients of compiled languages stand. Git-ignored;
 * `scripts/ci/compiled-clients-setup.ts` fills it.
 */
export const COMPILED_CLIENTS_FOLDER = join(import.meta.dir, '../../../.tools/compiled-clients');

/** One process for each of them. */
export interface CompiledClients {
  readonly cases: readonly ClientCase[];
  close(): Promise<void>;
}

/**
 * Starts them.
 *
 * @throws Error when they are not set up.
 */
export function startCompiledClients(): CompiledClients {
  const go = join(COMPILED_CLIENTS_FOLDER, 'go-openai');
  if (!existsSync(go)) {
    throw new Error(
      'The compiled clients are missing: run `./run.sh test` or `bun scripts/ci/compiled-clients-setup.ts`.',
    );
  }
  const goOpenai = startClientProcess([go], {});
  return {
    cases: [goOpenai.caseOf('go-openai (Go)', false)],
    close: () => goOpenai.close(),
  };
}
