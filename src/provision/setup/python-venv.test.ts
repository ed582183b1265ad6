import { afterAll, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findPython } from './python-venv.ts';

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
