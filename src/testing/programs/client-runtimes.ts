import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** What the published client is tried in; each by version, whatever this machine has itself. */
export const CLIENT_RUNTIMES = {
  'node-20': { version: '20.20.2', program: 'bin/node' },
  'node-22': { version: '22.23.5', program: 'bin/node' },
  deno: { version: '2.9.6', program: 'deno' },
} as const;

export type ClientRuntime = keyof typeof CLIENT_RUNTIMES;

/** Where `scripts/ci/client-runtimes-setup.ts` puts them. */
export const CLIENT_RUNTIMES_FOLDER = join(import.meta.dir, '../../../.tools/client-runtimes');

/** The path of its program, there or not. */
export function runtimePath(name: ClientRuntime): string {
  return join(CLIENT_RUNTIMES_FOLDER, 'node_modules', name, CLIENT_RUNTIMES[name].program);
}

/** @throws Error that names the set-up when it is not there. */
export function findRuntime(name: ClientRuntime): string {
  const path = runtimePath(name);
  if (existsSync(path)) return path;
  throw new Error(`There is no ${name}: bun scripts/ci/client-runtimes-setup.ts installs it.`);
}
