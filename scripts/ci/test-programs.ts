/**
 * Gets the programs that the tests need and no package of ours brings: Chromium, which looks at the
 * pages, and Prometheus with promtool, which read the metrics. Those of the machine are used when
 * it has them; otherwise Debian's (or Ubuntu's) packages are unpacked into `.tools/programs`, which
 * needs no root. Does nothing, in milliseconds, where they stand. `bun scripts/ci/test-programs.ts`
 */
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ProvisionError } from '../../src/provision/provision-error.ts';
import { runCommandSync } from '../../src/provision/run-command.ts';
import {
  lookForProgram,
  PROGRAMS_FOLDER,
  type ProgramName,
} from '../../src/testing/programs/find-program.ts';

const PROGRAMS: readonly ProgramName[] = ['chromium', 'prometheus', 'promtool'];

/** With everything that they need: a machine without a desktop lacks most of it. */
const WITH_DEPENDENCIES = ['chromium', 'fonts-dejavu-core'];

/** Alone: a program in one file, whose package asks for a web page's parts. */
const ALONE = ['prometheus'];

function say(line: string): void {
  console.log(`test-programs: ${line}`);
}

function missing(): readonly ProgramName[] {
  return PROGRAMS.filter((name) => lookForProgram(name) === undefined);
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

function unpack(): void {
  const work = `${PROGRAMS_FOLDER}.partial`;
  rmSync(work, { recursive: true, force: true });
  const root = join(work, 'root');
  mkdirSync(root, { recursive: true });
  try {
    const apt = createApt(work);
    apt('update');
    apt('install', '--download-only', ...WITH_DEPENDENCIES);
    // `download` writes to where it is called from; so does nothing else here.
    const archives = join(work, 'cache/archives');
    const before = process.cwd();
    process.chdir(archives);
    apt('download', ...ALONE);
    process.chdir(before);
    for (const name of readdirSync(archives)) {
      if (name.endsWith('.deb')) run('dpkg-deb', '--extract', join(archives, name), root);
    }
    rmSync(PROGRAMS_FOLDER, { recursive: true, force: true });
    renameSync(root, PROGRAMS_FOLDER);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function main(): void {
  const before = missing();
  if (before.length === 0) return;
  if (Bun.which('apt-get') === null || Bun.which('dpkg-deb') === null) {
    const list = before.join(', ');
    throw new ProvisionError(`install ${list} and put them on the PATH: this machine has no apt.`);
  }
  say(`unpacking ${before.join(', ')} into .tools/programs`);
  const startMs = performance.now();
  unpack();
  const after = missing();
  if (after.length > 0) throw new ProvisionError(`apt's packages hold no ${after.join(', ')}.`);
  say(`done in ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
}

try {
  main();
} catch (error) {
  if (!(error instanceof ProvisionError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
