import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Golden, loadGolden, SMALL_MODEL_FOLDER } from '../../../testing/golden/xlmr-small.ts';
import { createOnnxSession } from '../../onnx/onnx-session.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeGraphOver, writeModel } from '../../onnx/write-model.ts';
import { withGraph } from '../graph/graph-edit.ts';
import { prepareGraphs } from '../graph/prepare-graph.ts';
import { readLinearLayer } from '../torch-file.ts';
import { fuseForCpu } from './fuse-for-cpu.ts';

const NAMES = { dense: 'dense', sparse: 'sparse', multiVector: 'multi' };
const hub = join(SMALL_MODEL_FOLDER, 'hub');
const layers = {
  sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
  multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
};

let folder: string;
let golden: Golden;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fuse-cpu-'));
  golden = await loadGolden();
});
afterAll(() => rm(folder, { recursive: true }));

test.each(['hub', 'bare'])('the fused graph of %s answers as PyTorch, all heads', async (kind) => {
  const source = readModel(join(SMALL_MODEL_FOLDER, kind, 'model.onnx'));
  const path = join(folder, `${kind}.onnx`);
  writeModel(prepareGraphs(source, layers, NAMES).exact, path);
  const fused = fuseForCpu(readModel(path));
  const count = (op: string) => fused?.graph.nodes.filter((node) => node.op === op).length;
  expect([count('MultiHeadAttention'), count('Gelu'), count('Softmax')]).toEqual([2, 2, 0]);
  // Over the weights that are there already: the second graph costs no further gigabytes.
  const over = join(folder, `${kind}-float32.onnx`);
  if (fused) writeGraphOver(fused, over, `${path}_data`);
  const session = await createOnnxSession(over);
  for (const text of golden.texts) {
    const answer = await session.run([text.ids]);
    expectNear(answer.get('dense')?.values, text.dense);
    expectNear(answer.get('sparse')?.values, text.tokenWeights);
    expectNear(answer.get('multi')?.values, text.multiVector);
  }
  await session.close();
});

test('attention that is written in another way is left as it is', () => {
  const { exact } = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, NAMES);
  const nodes = exact.graph.nodes.map((node) =>
    node.op === 'Softmax' ? { ...node, inputs: ['elsewhere'] } : node,
  );
  expect(fuseForCpu(withGraph(exact, { nodes }))).toBeUndefined();
});

function expectNear(found: Float32Array | undefined, expected: Float32Array): void {
  expect(found?.length).toBe(expected.length);
  const worst = expected.reduce(
    (most, value, index) => Math.max(most, Math.abs(value - (found?.[index] ?? Number.NaN))),
    0,
  );
  expect(worst).toBeLessThan(1e-5);
}
