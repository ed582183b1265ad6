import { afterAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { FLOAT32_FILE, INT8_FILE, int8RecordPath } from '../../model/int8-record.ts';
import {
  chooseModelFile,
  engineOfFile,
  hasInt8DotProduct,
  mappedPathOf,
  modelBytesOf,
} from './model-file.ts';

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

test('a file is told from others by its hash, or else by its name and size', () => {
  const engine = (path = modelPath) =>
    engineOfFile({ folder, files: [CONFIG, FILE], modelPath: path });
  expect(engine()).toBe('model.onnx sha256 abababababababab');
  writeFileSync(modelPath, `${WEIGHTS} of somebody else`);
  expect(engine()).toBe('model.onnx 24 bytes');
  const own = join(folder, 'own.onnx');
  writeFileSync(own, WEIGHTS);
  expect(engine(own)).toBe('own.onnx 7 bytes');
});

test('a file that a setting names is taken as it is, and so is one that nobody lists', () => {
  leaveCopy({ sha256: SHA256, runtimeVersion: VERSION });
  const own = join(folder, 'own.onnx');
  writeFileSync(own, WEIGHTS);
  expect(choose('own.onnx')).toEqual({ modelPath: own });
  expect(choose(own)).toEqual({ modelPath: own });
  expect(choose('', [CONFIG])).toEqual({ modelPath });
});

describe('of a model whose files no manifest lists', () => {
  const DATA = 'cd'.repeat(32);

  /** What an export leaves for a CPU. */
  function exportGraphs(record: object): string {
    writeFileSync(join(folder, 'onnx/model.onnx_data'), WEIGHTS);
    writeFileSync(join(folder, FLOAT32_FILE), 'graph');
    writeFileSync(join(folder, INT8_FILE), 'graph');
    writeFileSync(`${join(folder, INT8_FILE)}_data`, WEIGHTS);
    writeFileSync(int8RecordPath(folder), JSON.stringify(record));
    return join(folder, INT8_FILE);
  }
  const bytes = 'graph'.length + WEIGHTS.length;
  const graph = { model: SHA256, data: DATA, bytes };
  const proven = { format: 1, gate: { passed: true }, graph };

  test('int8 serves where it has proved itself and the processor multiplies bytes', () => {
    const int8Path = exportGraphs(proven);
    const expected = hasInt8DotProduct() ? int8Path : join(folder, FLOAT32_FILE);
    expect(choose('', [CONFIG])).toEqual({ modelPath: expected });
    expect(choose(FLOAT32_FILE, [CONFIG])).toEqual({ modelPath: join(folder, FLOAT32_FILE) });
  });

  test('its mapped copy goes with it, unless the file is another by now', () => {
    const int8Path = exportGraphs(proven);
    const mappedPath = mappedPathOf(int8Path, { sha256: DATA, runtimeVersion: VERSION });
    mkdirSync(dirname(mappedPath));
    writeFileSync(mappedPath, 'graph');
    expect(choose(INT8_FILE, [CONFIG])).toEqual({ modelPath: int8Path, mappedPath });
    writeFileSync(`${int8Path}_data`, `${WEIGHTS} of another export`);
    expect(choose(INT8_FILE, [CONFIG])).toEqual({ modelPath: int8Path });
  });

  test('float32 serves where int8 was refused, or has no record that can be read', () => {
    const float32 = { modelPath: join(folder, FLOAT32_FILE) };
    exportGraphs({ format: 1, gate: { passed: false } });
    expect(choose('', [CONFIG])).toEqual(float32);
    exportGraphs({ ...proven, format: 99 });
    expect(choose('', [CONFIG])).toEqual(float32);
  });

  test('the graph over weights of another counts those', () => {
    exportGraphs(proven);
    expect(modelBytesOf(join(folder, FLOAT32_FILE))).toBe(bytes);
    expect(modelBytesOf(join(folder, INT8_FILE))).toBe(bytes);
    expect(modelBytesOf(join(folder, 'gone.onnx'))).toBe(0);
  });
});
