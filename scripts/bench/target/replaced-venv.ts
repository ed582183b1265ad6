import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { say } from '../run-script.ts';

const ROOT = join(import.meta.dir, '../../..');
const VENV = join(ROOT, '.tools/bench-venv');
const REQUIREMENTS = join(ROOT, 'scripts/bench/replaced-service/requirements.txt');

/** Pythons that numpy 1.26 and transformers 4 have wheels for; the bare name follows the PATH. */
const PYTHONS = ['python3.11', 'python3.12', 'python3.10', 'python3'];

/**
 * Makes `.tools/bench-venv`, or finds it whole. Built beside its place and renamed into it: it is
 * never half there.
 *
 * @returns its Python.
 * @throws Error that says in one line what failed.
 */
export function setUpReplacedVenv(): string {
  const python = join(VENV, 'bin/python');
  const stamp = join(VENV, 'stamp.txt');
  const wanted = readFileSync(REQUIREMENTS, 'utf8');
  if (existsSync(python) && existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) {
    return python;
  }
  const partial = `${VENV}.partial-${process.pid}`;
  mkdirSync(dirname(VENV), { recursive: true });
  try {
    say(`making .tools/bench-venv for the replaced kind of service: some minutes, 100 MB`);
    run([basePython(), '-m', 'venv', partial]);
    run([
      join(partial, 'bin/python'),
      ...['-m', 'pip', 'install', '--no-deps', '--only-binary=:all:', '--quiet'],
      ...['--disable-pip-version-check', '-r', REQUIREMENTS],
    ]);
    run([join(partial, 'bin/python'), '-c', 'import aiohttp, fastapi, transformers, uvicorn']);
    writeFileSync(join(partial, 'stamp.txt'), wanted);
    rmSync(VENV, { recursive: true, force: true });
    renameSync(partial, VENV);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return python;
}

function basePython(): string {
  const probe = 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))';
  const found = PYTHONS.find((name) => {
    if (Bun.which(name) === null) return false;
    return Bun.spawnSync([name, '-c', probe], { stderr: 'ignore' }).exitCode === 0;
  });
  if (found === undefined) throw new Error('A Python from 3.10 to 3.12 with venv is missing.');
  return found;
}

function run(command: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...command], { stdout: 'ignore', stderr: 'pipe' });
  if (exitCode === 0) return;
  const said = stderr.toString().trim().split('\n').at(-1);
  throw new Error(`${command.slice(0, 5).join(' ')} … failed: ${said}`);
}
