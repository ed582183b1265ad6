import { afterAll, beforeAll, expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from 'onnxruntime-node';
import { loadInferenceEngine, openSession } from '../../../backend/local/inference-engine.ts';
import { joinTokenIds } from '../../../backend/local/inference-protocol.ts';
import { hasInt8DotProduct } from '../../../backend/local/model-file.ts';
import { cosineOf } from '../../../model/fidelity.ts';
import { INT8_FILE, readInt8Record } from '../../../model/int8-record.ts';
import { type Golden, loadGolden, SMALL_MODEL_FOLDER } from '../../../testing/golden/xlmr-small.ts';
import type { Head } from '../../../vectors/output.ts';
import { floatTensor, loadFloats, type OnnxModel } from '../../onnx/model.ts';
import { createOnnxSession } from '../../onnx/onnx-session.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { withGraph } from '../graph/graph-edit.ts';
import { prepareGraphs } from '../graph/prepare-graph.ts';
import { readLinearLayer } from '../torch-file.ts';
import { int8GateTexts } from './judge-int8.ts';
import { writeCpuGraphs } from './write-cpu-graphs.ts';

const outputs = { dense: 'dense', sparse: 'sparse', multi_vector: 'multi' };
const HEADS: Head[] = ['dense', 'sparse', 'multi_vector'];
const manifest = { id: 'small', outputs, tokenCountMax: 512 };
const hub = join(SMALL_MODEL_FOLDER, 'hub');
const { exact } = prepareGraphs(
  readModel(join(hub, 'model.onnx')),
  {
    sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
  },
  { dense: 'dense', sparse: 'sparse', multiVector: 'multi' },
);

let root: string;
let golden: Golden;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'cpu-graphs-'));
  golden = await loadGolden();
});
afterAll(() => rm(root, { recursive: true }));

async function write(model: OnnxModel) {
  const folder = await mkdtemp(join(root, 'model-'));
  const exactPath = join(folder, 'onnx/model.onnx');
  await mkdir(join(folder, 'onnx'));
  writeModel(model, exactPath);
  const lines: string[] = [];
  await writeCpuGraphs({ manifest, exactPath, folder, say: (line) => lines.push(line) });
  return { folder, lines, record: readInt8Record(folder) };
}

/** One channel of what goes into a layer's products a hundred times as large as the others. */
function withOutlier(model: OnnxModel): OnnxModel {
  const constants = new Map(model.graph.constants);
  for (const [name, tensor] of constants) {
    if (!/layer\.\d\.attention\.output\.LayerNorm\.weight$/.test(name)) continue;
    const values = loadFloats(tensor).map((value, channel) => (channel === 5 ? 60 : value));
    constants.set(name, floatTensor(name, tensor.dims, values));
  }
  return withGraph(model, { constants });
}

// Where sums of bytes saturate, those of this model do. The others below are smaller.
test('int8 answers as PyTorch does, or the gate refuses it and names the processor', async () => {
  const { folder, record } = await write(exact);
  if (!hasInt8DotProduct()) {
    expect(record?.gate.passed).toBe(false);
    expect(record?.gate.reasons.at(-1)).toContain('export on a processor with VNNI');
    expect(existsSync(join(folder, INT8_FILE))).toBe(false);
    return;
  }
  expect(record?.gate).toMatchObject({ passed: true, reasons: [], tokensMax: 312 });
  expect(record?.gate.dense.cosineMin).toBeGreaterThan(0.995);
  expect(record?.gate.multiVector?.pairCount).toBe(20);
  const session = await createOnnxSession(join(folder, INT8_FILE));
  const cosines: number[] = [];
  for (const text of golden.texts) {
    const answer = await session.run([text.ids]);
    cosines.push(cosineOf(answer.get('dense')?.values ?? text.dense, text.dense));
    const rows = answer.get('multi')?.values ?? new Float32Array();
    expect(cosineOf(rows, text.multiVector)).toBeGreaterThan(0.99);
  }
  await session.close();
  expect(Math.min(...cosines)).toBeGreaterThan(0.995);
  // Not the very same numbers, or float32 is compared with itself.
  expect(Math.min(...cosines)).toBeLessThan(0.999999);
});

test('a text has the same rows alone and beside others, on one thread and on two', async () => {
  const { folder } = await write(withOutlier(exact));
  const init = { modelPath: join(folder, INT8_FILE), outputs, dimension: 32 };
  const engine = await loadInferenceEngine({ ...init, threadCount: 1, wideThreadCount: 2 });
  await engine.widen();
  const ids = golden.texts.slice(0, 4).map((text) => text.ids);
  const run = (texts: readonly (readonly number[])[], isAlone: boolean) =>
    engine.run({ messageId: 0, ...joinTokenIds(texts), heads: HEADS, isAlone });
  const { dense: together } = await run(ids, false);
  for (const [text, one] of ids.entries()) {
    const wide = await run([one], true);
    wide.dense?.forEach((value, index) => {
      expect(value).toBeCloseTo(together?.[32 * text + index] ?? Number.NaN, 6);
    });
  }
  await engine.release();
});

test('the dense row is the same whether other heads are asked for or not', async () => {
  const { folder } = await write(withOutlier(exact));
  const modelPath = join(folder, INT8_FILE);
  const init = { modelPath, outputs, dimension: 32, threadCount: 1, wideThreadCount: 0 };
  const engine = await loadInferenceEngine(init);
  for (const { ids } of golden.texts) {
    const run = (heads: Head[]) =>
      engine.run({ messageId: 0, ...joinTokenIds([ids]), heads, isAlone: false });
    const [{ dense: alone }, all] = [await run(['dense']), await run(HEADS)];
    expect(all.dense?.length).toBe(32);
    alone?.forEach((value, index) => {
      expect(Math.abs(value - (all.dense?.[index] ?? Number.NaN))).toBeLessThan(1e-6);
    });
  }
  await engine.release();
});

test('the last layer computes the tokens that the mask names', async () => {
  const { folder } = await write(withOutlier(exact));
  const session = await openSession(join(folder, INT8_FILE), 1);
  const ids = BigInt64Array.from(golden.texts[3]?.ids ?? [], BigInt);
  const ones = new BigInt64Array(2).fill(1n);
  const answer = await session.run({
    input_ids: new Tensor('int64', ids, [1, ids.length]),
    attention_mask: new Tensor('int64', ones, [1, 2]),
  });
  expect(ids.length).toBeGreaterThan(2);
  expect(answer.sparse?.dims).toEqual([1, 2]);
  expect(answer.multi?.dims).toEqual([1, 1, 32]);
  await session.release();
});

test('what channels of other magnitudes would spoil is divided', async () => {
  const { record } = await write(withOutlier(exact));
  expect(record?.exponents.some((exponent) => exponent > 0)).toBe(true);
  expect(record?.gate.passed).toBe(true);
});

test('what int8 cannot hold is refused with the figures, and leaves float32', async () => {
  // A number here and there so large that the others of its column become zero.
  const constants = new Map(exact.graph.constants);
  for (const [name, tensor] of constants) {
    if (tensor.dims.join() !== '32,64' && tensor.dims.join() !== '64,32') continue;
    const values = loadFloats(tensor).map((value, at) => (at % 37 === 0 ? 200 * value : value));
    constants.set(name, floatTensor(name, tensor.dims, values));
  }
  const { folder, lines, record } = await write(withGraph(exact, { constants }));
  expect(record?.gate.passed).toBe(false);
  expect(record?.graph).toBeUndefined();
  expect(existsSync(join(folder, INT8_FILE))).toBe(false);
  expect(existsSync(join(folder, 'onnx/model-float32.onnx'))).toBe(true);
  expect(lines.at(-1)).toMatch(
    /float32 serves on a CPU: the least cosine is 0\.\d{4}, at least 0.995/,
  );
});

test('the gate has texts of every length, up to what the model takes', () => {
  const lengths = int8GateTexts(8_192).map(({ length }) => length);
  expect(Math.max(...lengths)).toBe(8_000);
  expect(lengths.length).toBeGreaterThan(20);
  expect(Math.max(...int8GateTexts(512).map(({ length }) => length))).toBeLessThanOrEqual(512);
});
