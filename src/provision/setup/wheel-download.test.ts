import { afterAll, expect, test } from 'bun:test';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Wheel } from '../../model/manifest-source.ts';
import { ProvisionError } from '../provision-error.ts';
import { downloadWheels } from './wheel-download.ts';

const root = mkdtempSync(join(tmpdir(), 'wheel-download-'));
const usualPath = process.env.PATH;
afterAll(() => {
  process.env.PATH = usualPath;
  rmSync(root, { recursive: true, force: true });
});

const CONTENT = 'the wheel';
const WHEEL: Wheel = {
  name: 'sample',
  version: '1.0',
  file: 'sample-1.0-py3-none-any.whl',
  bytes: CONTENT.length,
  sha256: new Bun.CryptoHasher('sha256').update(CONTENT).digest('hex'),
  pipArguments: ['--platform', 'manylinux2014_x86_64'],
};

let caseCount = 0;

/**
 * A folder of its own, and a `python3` on the PATH that runs `script`; `FOLDER` there is where
 * wheels go.
 */
async function stage(script: string): Promise<string> {
  caseCount++;
  const bin = join(root, `bin-${caseCount}`);
  const folder = join(root, `downloads-${caseCount}`);
  const program = `#!/bin/sh\nFOLDER='${folder}'\necho "$@" >>'${folder}.calls'\n${script}\n`;
  await Bun.write(join(bin, 'python3'), program);
  await chmod(join(bin, 'python3'), 0o755);
  process.env.PATH = `${bin}:/usr/bin:/bin`;
  return folder;
}

const DELIVER = `printf '%s' '${CONTENT}' >"$FOLDER/${WHEEL.file}"`;

function download(folder: string, lines: string[] = []): Promise<string[]> {
  return downloadWheels({ wheels: [WHEEL], folder, log: (line) => lines.push(line) });
}

test('pip is asked for exactly the pinned wheel, by hash', async () => {
  const folder = await stage(
    `cat "$FOLDER/sample.tmp/requirements.txt" >>"$FOLDER.calls"; ${DELIVER}`,
  );
  expect(await download(folder)).toEqual([join(folder, WHEEL.file)]);
  const calls = await Bun.file(`${folder}.calls`).text();
  expect(calls).toContain('-m pip download --no-deps --only-binary=:all:');
  expect(calls).toContain('--require-hashes');
  expect(calls).toContain('--platform manylinux2014_x86_64');
  expect(calls).toContain(`sample==1.0 --hash=sha256:${WHEEL.sha256}`);
  expect(readdirSync(folder)).toEqual([WHEEL.file]);
});

test('a wheel that is there and right is not asked for again', async () => {
  const folder = await stage(DELIVER);
  await download(folder);
  const lines: string[] = [];
  await download(folder, lines);
  expect(lines).toEqual([]);
  expect((await Bun.file(`${folder}.calls`).text()).trim().split('\n')).toHaveLength(1);
});

test('half a wheel, as an interrupted set-up leaves it, is replaced', async () => {
  const folder = await stage(DELIVER);
  await Bun.write(join(folder, WHEEL.file), CONTENT.slice(0, 4));
  await download(folder);
  expect(await Bun.file(join(folder, WHEEL.file)).text()).toBe(CONTENT);
});

async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  const { message } = error as Error;
  expect(message).not.toContain('\n');
  return message;
}

test('a wheel with another content is refused', async () => {
  const folder = await stage(`printf 'the wheeL' >"$FOLDER/${WHEEL.file}"`);
  expect(await messageOf(download(folder))).toContain('sha256');
});

test('no pip, no network, no Python: one line each, with the way out', async () => {
  const noPip = await stage('echo "/usr/bin/python3: No module named pip" >&2; exit 1');
  expect(await messageOf(download(noPip))).toContain('python3 has no pip: install it');

  const noNetwork = await stage(`
    echo "WARNING: Retrying" >&2
    echo "ERROR: Could not find a version that satisfies the requirement sample==1.0" >&2
    echo "ERROR: No matching distribution found for sample==1.0" >&2
    exit 1`);
  const message = await messageOf(download(noNetwork));
  expect(message).toStartWith('pip could not download sample 1.0: Could not find a version');
  expect(message).toContain('Check the network');

  process.env.PATH = join(root, 'empty');
  const failure = download(join(root, 'none'));
  await expect(failure).rejects.toThrow(ProvisionError);
  expect(await messageOf(failure)).toContain('python3 is missing');
});
