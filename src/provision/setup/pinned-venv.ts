import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Log, ProvisionError } from '../provision-error.ts';
import { runCommandSync } from '../run-command.ts';
import type { Python } from './find-python.ts';

/**
 * Makes a Python venv with exactly the packages that are named, beside its place, and renames it
 * into it: it is never half there. What set-ups that were killed have left there is removed.
 *
 * @param options.pins name and version of every package, dependencies too; nothing is resolved.
 * @param options.finish completes and checks the new venv, and writes its stamp.
 * @param options.isReady whether another set-up was faster.
 * @throws ProvisionError whose message says in one line what failed and what to do.
 */
export function makePinnedVenv(options: {
  directory: string;
  python: Python;
  pins: readonly string[];
  finish: (directory: string) => void;
  isReady: () => boolean;
  say: Log;
}): void {
  const { directory, python, pins, finish, isReady, say } = options;
  const partial = `${directory}.partial-${process.pid}`;
  mkdirSync(dirname(partial), { recursive: true });
  removeAbandoned(directory);
  try {
    say(`making a venv with ${python.command} (${python.version})`);
    const made = runCommandSync([python.command, '-m', 'venv', partial]);
    if (made.exitCode !== 0) {
      const why = (made.errors || made.out).trim().split('\n').at(-1);
      throw new ProvisionError(
        `${python.command} -m venv failed (${why}): apt-get install python3-venv`,
      );
    }
    install(partial, pins);
    finish(partial);
    // Another set-up may have been faster; tests may run in its venv by now.
    if (isReady()) return;
    rmSync(directory, { recursive: true, force: true });
    renameSync(partial, directory);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

function install(directory: string, pins: readonly string[]): void {
  const { exitCode, errors } = runCommandSync([
    join(directory, 'bin/python'),
    ...['-m', 'pip', 'install', '--no-deps', '--only-binary=:all:'],
    ...['--no-compile', '--quiet', '--disable-pip-version-check', ...pins],
  ]);
  if (exitCode === 0) return;
  const lines = errors.trim().split('\n');
  const why = lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1);
  throw new ProvisionError(`pip install failed (${why}): check the network and pip's own settings`);
}

/**
 * Removes what set-ups of this venv that were killed left beside it, a quarter of a gigabyte each.
 */
function removeAbandoned(directory: string): void {
  const start = `${basename(directory)}.partial-`;
  for (const name of readdirSync(dirname(directory))) {
    const pid = name.startsWith(start) ? name.slice(start.length) : '';
    if (/^\d+$/.test(pid) && !existsSync(`/proc/${pid}`)) {
      rmSync(join(dirname(directory), name), { recursive: true, force: true });
    }
  }
}
