import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';

/**
 * Unpacks packages of Debian (or Ubuntu) into a folder, which needs no root. The folder is there
 * whole or not at all.
 *
 * @param options.withDependencies packages with all that they need and the machine lacks.
 * @param options.alone packages whose program needs nothing that it asks for.
 * @param options.missing what the packages are for, in the message where there is no apt.
 * @throws ProvisionError whose message says what failed.
 */
export function unpackDebian(options: {
  readonly folder: string;
  readonly withDependencies: readonly string[];
  readonly alone?: readonly string[];
  readonly missing: readonly string[];
}): void {
  const { folder, withDependencies, alone = [], missing } = options;
  if (Bun.which('apt-get') === null || Bun.which('dpkg-deb') === null) {
    const list = missing.join(', ');
    throw new ProvisionError(`install ${list} and put them on the PATH: this machine has no apt.`);
  }
  const work = `${folder}.partial`;
  rmSync(work, { recursive: true, force: true });
  const root = join(work, 'root');
  mkdirSync(root, { recursive: true });
  try {
    const apt = createApt(work);
    apt('update');
    apt('install', '--download-only', ...withDependencies);
    const archives = join(work, 'cache/archives');
    if (alone.length > 0) {
      // `download` writes to where it is called from; so does nothing else here.
      const before = process.cwd();
      process.chdir(archives);
      apt('download', ...alone);
      process.chdir(before);
    }
    for (const name of readdirSync(archives)) {
      if (name.endsWith('.deb')) run('dpkg-deb', '--extract', join(archives, name), root);
    }
    rmSync(folder, { recursive: true, force: true });
    renameSync(root, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** apt in a folder of its own, without root; what is installed it reads off the system. */
function createApt(folder: string): (...words: string[]) => void {
  for (const part of ['state/lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(folder, part), { recursive: true });
  }
  const options = [
    `Dir::State=${folder}/state`,
    'Dir::State::status=/var/lib/dpkg/status',
    `Dir::Cache=${folder}/cache`,
    'Debug::NoLocking=1',
    'APT::Sandbox::User=',
    'APT::Install-Recommends=false',
    'Acquire::Languages=none',
    'Acquire::Retries=3',
  ].flatMap((option) => ['-o', option]);
  return (...words) => run('apt-get', ...options, '-qq', '--yes', ...words);
}

function run(...command: string[]): void {
  const { exitCode, errors } = runCommandSync(command);
  if (exitCode === 0) return;
  const reason = errors.trim().split('\n').at(-1) ?? '';
  throw new ProvisionError(`${command[0]} failed: ${reason}`);
}

/** A program, and what its environment needs. */
export interface DebianProgram {
  readonly program: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** A program of the machine, or of a Debian package that is unpacked into `.tools` for it. */
export function findDebianProgram(name: string, packageName: string): DebianProgram {
  const installed = Bun.which(name);
  if (installed !== null) return { program: installed, environment: {} };
  const folder = join(import.meta.dir, '../../.tools', packageName);
  const program = join(folder, 'usr/sbin', name);
  if (!existsSync(program)) {
    unpackDebian({ folder, withDependencies: [packageName], missing: [name] });
  }
  return { program, environment: librariesOf(folder) };
}

/** What the environment of a program needs that was unpacked into the folder. */
export function librariesOf(folder: string): Readonly<Record<string, string>> {
  const triplet = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const libraries = ['usr/lib', 'lib'].map((place) => join(folder, place, triplet));
  return { LD_LIBRARY_PATH: libraries.join(':') };
}
