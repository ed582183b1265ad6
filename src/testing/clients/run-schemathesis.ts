import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clientsPython } from './clients-venv.ts';

/** What a run of schemathesis came to. */
export interface SchemathesisRun {
  /** Requests that it made up and sent. */
  readonly caseCount: number;
  /** Whether every check held for every reply. */
  readonly isClean: boolean;
  /** All that it said: for each failure the request as a curl command, and the reply. */
  readonly output: string;
}

/**
 * Lets schemathesis make up requests from the server's own OpenAPI document, right ones and wrong
 * ones, and check every reply against it, with all of its checks.
 *
 * @param options.examplesMax requests it makes up for each operation, at most.
 * @param options.phases all four unless told.
 * @throws Error when it did not come to its end.
 */
export async function runSchemathesis(options: {
  url: string;
  seed: number;
  examplesMax: number;
  phases?: readonly ('examples' | 'coverage' | 'fuzzing' | 'stateful')[];
  /** What is added to `schemathesis.toml`. */
  settings?: string;
  msMax: number;
}): Promise<SchemathesisRun> {
  const { url, seed, examplesMax, phases, settings = '', msMax } = options;
  // It leaves folders of its own where it runs.
  const folder = mkdtempSync(join(tmpdir(), 'schemathesis-'));
  const configuration = join(folder, 'schemathesis.toml');
  const shared = readFileSync(join(import.meta.dir, 'schemathesis.toml'), 'utf8');
  writeFileSync(configuration, `${shared}\n${settings}`);
  const child = Bun.spawn(
    [
      ...[clientsPython(), '-m', 'schemathesis.cli', '--config-file', configuration, 'run'],
      ...[`${url}/swagger/json`, '--url', url, '--checks', 'all', '--mode', 'all'],
      ...['--max-examples', String(examplesMax), '--seed', String(seed)],
      ...['--continue-on-failure', '--no-color', '--suppress-health-check', 'all'],
      ...(phases === undefined ? [] : ['--phases', phases.join(',')]),
    ],
    {
      cwd: folder,
      stdout: 'pipe',
      stderr: 'pipe',
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C.UTF-8', HOME: folder },
      timeout: msMax,
      killSignal: 'SIGKILL',
    },
  );
  const [out, errors, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  rmSync(folder, { recursive: true, force: true });
  const count = /(\d[\d,]*) generated/.exec(out)?.[1];
  if (count === undefined) {
    throw new Error(`schemathesis ended with ${child.signalCode ?? code}:\n${out}\n${errors}`);
  }
  const caseCount = Number(count.replaceAll(',', ''));
  return { caseCount, isClean: code === 0, output: `${out}${errors}` };
}
