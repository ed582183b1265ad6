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
  const goOpenai = startClientProcess([placeOf('go-openai')], {});
  const folder = placeOf('langchain4j');
  const classes = `${join(folder, 'lib/*')}:${join(folder, 'classes')}`;
  const langChain4j = startClientProcess(
    // Its log has no place to go, and it says so.
    [join(folder, 'java'), '-Dslf4j.internal.verbosity=ERROR', '-cp', classes, 'LangChain4jClient'],
    { LC_ALL: 'C.UTF-8' },
  );
  const asyncOpenai = startClientProcess([placeOf('async-openai')], {});
  return {
    cases: [
      asyncOpenai.caseOf('async-openai (Rust)', true),
      goOpenai.caseOf('go-openai (Go)', false),
      langChain4j.caseOf('LangChain4j (Java)', true),
    ],
    async close() {
      await Promise.all([goOpenai.close(), langChain4j.close(), asyncOpenai.close()]);
    },
  };
}

function placeOf(name: string): string {
  const place = join(COMPILED_CLIENTS_FOLDER, name);
  if (existsSync(place)) return place;
  throw new Error(
    `${name} is missing: run \`./run.sh test\` or \`bun scripts/ci/compiled-clients-setup.ts\`.`,
  );
}
