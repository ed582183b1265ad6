import { afterAll, beforeEach, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import packageJson from '../../../package.json';
import { chooseModelFile } from '../../backend/local/model-file.ts';
import { bytesOf, OnnxGraph } from '../onnx/onnx-graph.ts';
import { ensureMappedCopy } from './mapped-copy.ts';

const root = mkdtempSync(join(tmpdir(), 'mapped-copy-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const DIMENSION = 32;
const model = await buildModel();
const FILE = {
  // As large as what is worth a copy; nobody measures it.
  ...{ path: 'onnx/model.onnx', bytes: 10_000_000, role: 'model' as const },
  sha256: new Bun.CryptoHasher('sha256').update(model).digest('hex'),
};
const MANIFEST = { files: [FILE], outputs: { dense: 'row' }, dimension: DIMENSION };
const importWriter = () => import('./write-mapped-copy.ts');

let folder: string;
let lines: string[];
beforeEach(async () => {
  folder = mkdtempSync(join(root, 'model-'));
  lines = [];
  await Bun.write(join(folder, FILE.path), model);
});

/** A word embedding and a matrix, both large enough to leave the graph. */
async function buildModel(): Promise<Buffer> {
  const wave = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i));
  const graph = new OnnxGraph();
  graph.floats('words', wave(16 * DIMENSION), [16, DIMENSION]);
  graph.floats('matrix', wave(DIMENSION * DIMENSION), [DIMENSION, DIMENSION]);
  graph.constant('axis', { type: 'int64', dimensions: [1], bytes: bytesOf(BigInt64Array.of(1n)) });
  graph.node({ operator: 'Gather', inputs: ['words', 'input_ids'], outputs: ['word'] });
  graph.node({ operator: 'MatMul', inputs: ['word', 'matrix'], outputs: ['state'] });
  graph.node({
    operator: 'ReduceMean',
    inputs: ['state', 'axis'],
    outputs: ['row'],
    attributes: { keepdims: 0 },
  });
  const parts = graph.toModel({
    ...{ name: 'test', producer: 'test', operatorSets: { '': 21 }, metadata: {} },
    inputs: [{ name: 'input_ids', type: 'int64', dimensions: ['batch', 'sequence'] }],
    outputs: [{ name: 'row', type: 'float', dimensions: ['batch', DIMENSION] }],
  });
  return Buffer.concat([...parts]);
}

function ensure(more: Partial<Parameters<typeof ensureMappedCopy>[0]> = {}) {
  const log = (line: string) => lines.push(line);
  return ensureMappedCopy({ manifest: MANIFEST, folder, importWriter, log, ...more });
}

/** Where a server would look: under the version of package.json. */
function mappedPath(): string | undefined {
  const runtimeVersion = packageJson.dependencies['onnxruntime-node'];
  const files = [{ ...FILE, bytes: model.length }];
  return chooseModelFile({ folder, files, named: '', runtimeVersion }).mappedPath;
}

test('the copy is where a server looks for it, and all its files are told', async () => {
  const files = await ensure();
  const path = mappedPath() ?? '';
  const runtime = 'node_modules/onnxruntime-node/package.json';
  const weights = join(dirname(path), 'weights.bin');
  const record = join(dirname(path), 'weights.check.json');
  expect(files).toEqual([path, weights, record, expect.stringContaining(runtime)]);
  expect(statSync(files[3]).isFile()).toBe(true);
  expect(statSync(weights).size).toBeGreaterThan(4 * 48 * DIMENSION);
  expect(lines).toEqual([expect.stringContaining('packing the weights of onnx/model.onnx')]);
});

test('older copies and what killed set-ups left go; what is another file’s stays', async () => {
  const child = Bun.spawn(['true']);
  await child.exited;
  const onnx = join(folder, 'onnx');
  const older = 'model.mapped-1.29.0-linux-x64-0123456789ab';
  const others = 'model-int8.mapped-1.29.0-linux-x64-0123456789ab';
  const running = `${older}.${process.pid}.partial`;
  for (const name of [older, others, running, `${older}.${child.pid}.partial`]) {
    mkdirSync(join(onnx, name));
    await Bun.write(join(onnx, name, 'model.onnx'), 'graph');
  }
  await ensure();
  const made = basename(dirname(mappedPath() ?? ''));
  expect(readdirSync(onnx).sort()).toEqual([others, running, 'model.onnx', made].sort());
});

test('it is repeatable, and a damaged copy is made anew', async () => {
  const files = await ensure();
  const bytes = statSync(files[1]).size;
  truncateSync(files[1], bytes - 1);
  expect(await ensure()).toEqual(files);
  expect(statSync(files[1]).size).toBe(bytes);
  expect(readdirSync(join(folder, 'onnx')).length).toBe(2);
});

test('without ONNX Runtime it says so, once, and goes on', async () => {
  const missing = () => Promise.reject(new Error("Cannot find package 'onnxruntime-node'"));
  expect(await ensure({ importWriter: missing })).toEqual([]);
  expect(lines).toEqual([
    'no mapped copy of onnx/model.onnx, the server loads the file itself: ' +
      "Cannot find package 'onnxruntime-node'",
  ]);
  expect(readdirSync(join(folder, 'onnx'))).toEqual(['model.onnx']);
});

test('what the runtime cannot load or write leaves nothing, an earlier copy included', async () => {
  await ensure();
  lines = [];
  await Bun.write(join(folder, FILE.path), 'no graph');
  expect(await ensure()).toEqual([]);
  expect(lines[1]).toContain('the server loads the file itself');
  expect(readdirSync(join(folder, 'onnx'))).toEqual(['model.onnx']);
});

test('a large model, or one whose file nobody knows, is left as it is', async () => {
  const large = { ...MANIFEST, files: [{ ...FILE, bytes: 2.3e9 }] };
  expect(await ensure({ manifest: large })).toEqual([]);
  expect(await ensure({ manifest: { ...MANIFEST, files: [] } })).toEqual([]);
  expect(lines).toEqual([]);
  expect(readdirSync(join(folder, 'onnx'))).toEqual(['model.onnx']);
});
