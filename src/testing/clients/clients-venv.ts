import { existsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Where the Python clients of the tests stand. Git-ignored; `scripts/clients-setup.ts` fills it.
 */
export const CLIENTS_VENV_DIRECTORY = join(import.meta.dir, '../../../.tools/clients-venv');

/** Its Python, whether it is there or not. */
export function clientsPython(): string {
  return join(CLIENTS_VENV_DIRECTORY, 'bin/python');
}

/** Long enough for an import of every client on a machine that does ten things at once. */
const RUN_MS_MAX = 120_000;

/**
 * Runs a Python script of this folder among the clients, to its end.
 *
 * @param script its name.
 * @param asked what it reads as JSON from standard input.
 * @returns what it wrote as JSON to standard output.
 * @throws Error with its standard error when it fails, or when the venv is not set up.
 */
export async function runClients(script: string, asked: object): Promise<unknown> {
  if (!existsSync(clientsPython())) {
    throw new Error(
      'The Python clients of the tests are missing: run `./run.sh test` or `bun scripts/clients-setup.ts`.',
    );
  }
  const child = Bun.spawn([clientsPython(), join(import.meta.dir, script)], {
    stdin: new TextEncoder().encode(JSON.stringify(asked)),
    stdout: 'pipe',
    stderr: 'pipe',
    // Nothing of the caller's settings, and no way to a hub or to anybody's telemetry.
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C.UTF-8', HF_HUB_OFFLINE: '1' },
    timeout: RUN_MS_MAX,
    killSignal: 'SIGKILL',
  });
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`${script} ended with ${child.signalCode ?? code}:\n${errors}`);
  return JSON.parse(out);
}
