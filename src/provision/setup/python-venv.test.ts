import { afterAll, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPython, makePinnedVenv } from './python-venv.ts';

const dir = mkdtempSync(join(tmpdir(), 'find-python-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const GOOD = {
  version: '3.11',
  directory: '/usr/lib',
  library: true,
  kind: 'CPython',
  platform: 'linux x86_64',
  venv: true,
};

/** A program that answers the probe as a Python of those properties would. */
function fakePython(name: string, properties: Partial<typeof GOOD>): string {
  const path = join(dir, name);
  const answer = JSON.stringify({ ...GOOD, ...properties });
  writeFileSync(path, `#!/bin/sh\necho '${answer}'\n`);
  chmodSync(path, 0o755);
  return path;
}

const find = (...candidates: string[]) => findPython({ versions: ['3.11', '3.13'], candidates });

test('the first that will do is taken', () => {
  const old = fakePython('old', { version: '3.6' });
  const good = fakePython('good', {});
  expect(find(join(dir, 'none'), old, good)).toEqual({
    command: good,
    version: '3.11',
    directory: '/usr/lib',
  });
});

test("a version manager's shim that only complains is passed over", () => {
  expect(find('/bin/false', fakePython('behind', {})).version).toBe('3.11');
});

test.each([
  ['version', { version: '3.6' }, /is CPython 3\.6; apt-get install python3/],
  ['kind', { kind: 'PyPy' }, /is PyPy 3\.11/],
  ['venv', { venv: false }, /apt-get install python3-venv/],
  ['library', { library: false }, /apt-get install libpython3\.11/],
  ['platform', { platform: 'darwin arm64' }, /linux x86_64, this is darwin arm64/],
] as const)(
  'one that will not do for its %s is told with its remedy',
  (name, properties, words) => {
    expect(() => find(fakePython(name, properties))).toThrow(words);
  },
);

test('no Python at all is told with what to install', () => {
  expect(() => find(join(dir, 'none'))).toThrow(/Python 3 is missing: apt-get install python3/);
});

test("this system's own Python is found", () => {
  expect(findPython({ versions: ['3.9', '3.10', '3.11', '3.12', '3.13'] }).version).toMatch(/^3\./);
});

test.each([undefined, true])('pip is told to take a package for any Python: %p', (anyPython) => {
  const command = join(dir, 'venv-maker');
  // Makes a venv whose Python writes down what it is called with.
  const lines = ['#!/bin/sh', 'mkdir -p "$3/bin"', 'ln -s "$0.pip" "$3/bin/python"'];
  writeFileSync(command, lines.join('\n'), { mode: 0o755 });
  writeFileSync(`${command}.pip`, `#!/bin/sh\necho "$@" > ${dir}/words\n`, { mode: 0o755 });
  makePinnedVenv({
    directory: join(dir, 'venv'),
    python: { command, version: '3.11', directory: '' },
    pins: ['one==1'],
    ...(anyPython === undefined ? {} : { anyPython }),
    finish: () => {},
    isReady: () => false,
    say: () => {},
  });
  const words = readFileSync(join(dir, 'words'), 'utf8').trim().split(' ');
  expect(words.slice(0, 4)).toEqual(['-m', 'pip', 'install', '--no-deps']);
  expect(words.includes('--ignore-requires-python')).toBe(anyPython === true);
  expect(words.at(-1)).toBe('one==1');
});

test('what has no wheel is built after the pins, with their setuptools', () => {
  const command = join(dir, 'builder');
  const lines = ['#!/bin/sh', 'mkdir -p "$3/bin"', 'ln -s "$0.pip" "$3/bin/python"'];
  writeFileSync(command, lines.join('\n'), { mode: 0o755 });
  writeFileSync(`${command}.pip`, `#!/bin/sh\necho "$@" >> ${dir}/calls\n`, { mode: 0o755 });
  makePinnedVenv({
    directory: join(dir, 'built'),
    python: { command, version: '3.11', directory: '' },
    pins: ['one==1'],
    sources: ['two==2'],
    finish: () => {},
    isReady: () => false,
    say: () => {},
  });
  const calls = readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n');
  expect(calls).toEqual([
    expect.stringMatching(/--only-binary=:all: .*one==1$/),
    expect.stringMatching(/--no-binary=:all: --no-build-isolation .*two==2$/),
  ]);
});
