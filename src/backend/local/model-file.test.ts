import { afterAll, beforeEach, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { chooseModelFile, mappedPathOf } from './model-file.ts';

const root = mkdtempSync(join(tmpdir(), 'model-file-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const WEIGHTS = 'weights';
const SHA256 = 'ab'.repeat(32);
const FILE = { path: 'onnx/model.onnx', bytes: WEIGHTS.length, sha256: SHA256, role: 'model' };
const CONFIG = { path: 'config.json', bytes: 2, sha256: SHA256, role: 'config' };
const VERSION = '1.30.0';

let folder: string;
let modelPath: string;
beforeEach(() => {
  folder = mkdtempSync(join(root, 'model-'));
  modelPath = join(folder, FILE.path);
  mkdirSync(dirname(modelPath));
  writeFileSync(modelPath, WEIGHTS);
});

function leaveCopy(from: { sha256: string; runtimeVersion: string }): string {
  const path = mappedPathOf(modelPath, from);
  mkdirSync(dirname(path));
  writeFileSync(path, 'graph');
  return path;
}

function choose(named = '', files = [CONFIG, FILE]) {
  return chooseModelFile({ folder, files, named, runtimeVersion: VERSION });
}

test('the copy of this file and runtime goes with it, also when a setting names the file', () => {
  const mappedPath = leaveCopy({ sha256: SHA256, runtimeVersion: VERSION });
  expect(choose()).toEqual({ modelPath, modelSha256: SHA256, mappedPath });
  expect(choose('onnx/model.onnx')).toEqual({ modelPath, modelSha256: SHA256, mappedPath });
  expect(choose('./onnx/../onnx/model.onnx')).toEqual({
    modelPath,
    modelSha256: SHA256,
    mappedPath,
  });
});

test('a name has the runtime, the platform and the file in it', () => {
  const name = `model.mapped-1.30.0-${process.platform}-${process.arch}-abababababab`;
  const mappedPath = mappedPathOf(modelPath, { sha256: SHA256, runtimeVersion: VERSION });
  expect(mappedPath).toBe(join(folder, 'onnx', name, 'model.onnx'));
});

test.each([
  ['another runtime', { sha256: SHA256, runtimeVersion: '1.29.0' }],
  ['another file', { sha256: 'cd'.repeat(32), runtimeVersion: VERSION }],
])('a copy of %s is not used', (_what, from) => {
  leaveCopy(from);
  expect(choose()).toEqual({ modelPath, modelSha256: SHA256 });
});

test('a file that is not the one of the manifest has no copy', () => {
  leaveCopy({ sha256: SHA256, runtimeVersion: VERSION });
  writeFileSync(modelPath, `${WEIGHTS} of somebody else`);
  expect(choose()).toEqual({ modelPath });
  rmSync(modelPath);
  expect(choose()).toEqual({ modelPath });
});

test('a file that a setting names is taken as it is, and so is one that nobody lists', () => {
  leaveCopy({ sha256: SHA256, runtimeVersion: VERSION });
  const own = join(folder, 'own.onnx');
  writeFileSync(own, WEIGHTS);
  expect(choose('own.onnx')).toEqual({ modelPath: own });
  expect(choose(own)).toEqual({ modelPath: own });
  expect(choose('', [CONFIG])).toEqual({ modelPath });
});
