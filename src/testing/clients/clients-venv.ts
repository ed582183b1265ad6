import { join } from 'node:path';

/**
 * Where the Python clients of the tests stand. Git-ignored; `scripts/ci/clients-setup.ts` fills it.
 */
export const CLIENTS_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/clients-venv');

/** Its Python, whether it is there or not. */
export function clientsPython(): string {
  return join(CLIENTS_VENV_DIRECTORY, 'bin/python');
}
