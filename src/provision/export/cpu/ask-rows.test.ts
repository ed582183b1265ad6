import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from 'onnxruntime-node';
import { openSession } from '../../../backend/local/inference-engine.ts';
import { writeEncoderModel } from '../../../testing/export/full-shape-model.ts';
import { SMALL_MODEL_FOLDER } from '../../../testing/golden/xlmr-small.ts';
import { createNode, type OnnxModel } from '../../onnx/model.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { withGraph } from '../graph/graph-edit.ts';
import { prepareGraphs } from '../graph/prepare-graph.ts';
import { readLinearLayer } from '../torch-file.ts';
import { askRows } from './ask-rows.ts';
import { fuseForCpu } from './fuse-for-cpu.ts';
import { unfoldNorms } from './unfold-norms.ts';

const NAMES = { dense: 'dense', sparse: 'sparse', multiVector: 'multi' };
const IDS = [0, 5, 60, 7, 8, 90, 2];

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ask-rows-'));
  const shape = { layerCount: 2, hidden: 64, headCount: 4, inner: 128 };
  writeEncoderModel(folder, { ...shape, vocabulary: 1_000, positions: 66 });
});
afterAll(() => rm(folder, { recursive: true }));

async function unfoldedOf(hub: string, graph: string): Promise<OnnxModel> {
  const layers = {
    sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
  };
  const { exact } = prepareGraphs(readModel(join(hub, graph)), layers, NAMES);
  return unfoldNorms(fuseForCpu(exact) ?? exact);
}

async function answersOf(model: OnnxModel) {
  const path = join(folder, 'asked.onnx');
  writeModel(model, path);
  const session = await openSession(path, 1);
  const input = new Tensor('int64', BigInt64Array.from(IDS, BigInt), [1, IDS.length]);
  const run = (count: number) => {
    const ones = new BigInt64Array(count).fill(1n);
    const mask = new Tensor('int64', ones, [1, count]);
    return session.run({ input_ids: input, attention_mask: mask });
  };
  const answers = { all: await run(IDS.length), two: await run(2) };
  await session.release();
  return answers;
}

function maskOf(model: OnnxModel) {
  return model.graph.inputs.find(({ name }) => name === 'attention_mask')?.dims;
}

// The second counts its positions by the mask, of which two ones are left.
for (const kind of ['positions of the ids', 'positions of the mask']) {
  test(`heads of two tokens are those of the whole text: ${kind}`, async () => {
    const isHub = kind === 'positions of the ids';
    const hub = isHub ? join(SMALL_MODEL_FOLDER, 'hub') : folder;
    const asked = askRows(await unfoldedOf(hub, isHub ? 'model.onnx' : 'onnx/model.onnx'));
    expect(maskOf(asked)).toEqual(['batch', 'rows']);
    const { all, two } = await answersOf(asked);
    expect(all.sparse?.dims).toEqual([1, IDS.length]);
    expect(two.sparse?.dims).toEqual([1, 2]);
    for (const name of Object.values(NAMES)) {
      const [a, b] = [all[name]?.data ?? [], two[name]?.data ?? []];
      expect(b.length).toBeGreaterThan(0);
      for (const [at, value] of b.entries()) {
        expect(Math.abs(Number(value) - Number(a[at]))).toBeLessThan(1e-6);
      }
    }
  });
}

test('a graph whose heads read every token otherwise stays', async () => {
  const model = await unfoldedOf(join(SMALL_MODEL_FOLDER, 'hub'), 'model.onnx');
  const { nodes } = model.graph;
  const cast = nodes.find(({ op, inputs }) => op === 'Cast' && inputs[0] === 'attention_mask');
  const ids = createNode({ op: 'Abs', inputs: ['input_ids'], output: 'ids' });
  const changed = nodes.map((node) => (node === cast ? { ...node, inputs: ['ids'] } : node));
  const other = withGraph(model, { nodes: [ids, ...changed] });
  expect(cast).toBeDefined();
  expect(askRows(other)).toBe(other);
});
