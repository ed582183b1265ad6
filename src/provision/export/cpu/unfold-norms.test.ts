import { afterAll, beforeAll, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSession } from '../../../backend/local/inference-engine.ts';
import { type Golden, loadGolden, SMALL_MODEL_FOLDER } from '../../../testing/golden/xlmr-small.ts';
import {
  ELEMENT,
  floatTensor,
  type GraphNode,
  loadFloats,
  type OnnxModel,
} from '../../onnx/model.ts';
import { createOnnxSession } from '../../onnx/onnx-session.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { withGraph } from '../graph/graph-edit.ts';
import { prepareGraphs } from '../graph/prepare-graph.ts';
import { readLinearLayer } from '../torch-file.ts';
import { fuseForCpu } from './fuse-for-cpu.ts';
import { partOf } from './model-part.ts';
import { quantizeForCpu } from './quantize-for-cpu.ts';
import { unfoldNorms } from './unfold-norms.ts';
import { layerBounds } from './walk-layers.ts';

const NAMES = { dense: 'dense', sparse: 'sparse', multiVector: 'multi' };
const hub = join(SMALL_MODEL_FOLDER, 'hub');

let folder: string;
let golden: Golden;
let fused: OnnxModel;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unfold-norms-'));
  golden = await loadGolden();
  const layers = {
    sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
  };
  const { exact } = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, NAMES);
  fused = withUnevenNorms(fuseForCpu(exact) ?? exact);
});
afterAll(() => rm(folder, { recursive: true }));

/** Weights and biases of norms that nobody could leave out unseen. */
function withUnevenNorms(model: OnnxModel): OnnxModel {
  const constants = new Map(model.graph.constants);
  for (const node of model.graph.nodes) {
    if (node.op !== 'LayerNormalization') continue;
    for (const [index, name] of node.inputs.slice(1).entries()) {
      const tensor = constants.get(name);
      if (tensor === undefined) throw new Error(`${name} is no constant`);
      const values = loadFloats(tensor).map((value, at) => value + Math.sin(3 * at + index));
      constants.set(name, floatTensor(name, tensor.dims, values));
    }
  }
  return withGraph(model, { constants });
}

function countOf(model: OnnxModel, ...ops: string[]): number[] {
  return ops.map((op) => model.graph.nodes.filter((node) => node.op === op).length);
}

test('an unfolded graph answers as the one it is made of, all heads', async () => {
  const unfolded = unfoldNorms(fused);
  const norms = ({ graph }: OnnxModel) =>
    graph.nodes.filter(({ op }) => op === 'LayerNormalization').map(({ inputs }) => inputs.length);
  expect(norms(fused)).toEqual([3, 3, 3, 3, 3]);
  expect(norms(unfolded)).toEqual([2, 2, 2, 2, 2]);
  const paths = { fused: join(folder, 'fused.onnx'), unfolded: join(folder, 'unfolded.onnx') };
  writeModel(fused, paths.fused);
  writeModel(unfolded, paths.unfolded);
  const expected = await createOnnxSession(paths.fused);
  const found = await createOnnxSession(paths.unfolded);
  for (const { ids } of golden.texts.slice(0, 8)) {
    const [a, b] = [await expected.run([ids]), await found.run([ids])];
    for (const name of Object.values(NAMES)) {
      const values = b.get(name)?.values ?? new Float32Array();
      expect(values.length).toBeGreaterThan(0);
      a.get(name)?.values.forEach((value, at) => {
        expect(Math.abs(value - (values[at] ?? Number.NaN))).toBeLessThan(1e-5);
      });
    }
  }
  await expected.close();
  await found.close();
});

test('the runtime leaves norms and the sums before them apart', async () => {
  const mergedOf = async (model: OnnxModel, name: string) => {
    const [path, optimized] = [join(folder, `${name}.onnx`), join(folder, `${name}-run.onnx`)];
    const [from = '', to = ''] = layerBounds(model);
    const part = partOf(model, { from: [from], to: [to] });
    // Nothing is merged where the runtime cannot tell that the shapes are equal.
    const states = { name: from, elementType: ELEMENT.float, dims: ['batch', 'sequence', 32] };
    writeModel(quantizeForCpu(withGraph(part, { inputs: [states] }), new Map()), path);
    const session = await openSession(path, 1, { optimizedModelFilePath: optimized });
    await session.release();
    return countOf(readModel(optimized), 'SkipLayerNormalization', 'LayerNormalization');
  };
  expect(await mergedOf(fused, 'merged')).toEqual([2, 0]);
  expect(await mergedOf(unfoldNorms(fused), 'apart')).toEqual([0, 2]);
});

test('a norm whose weights are no constants stays', () => {
  const nodes = fused.graph.nodes.map((node) =>
    node.op === 'LayerNormalization' && node.inputs.length === 3
      ? { ...node, inputs: [node.inputs[0] ?? '', 'computed', node.inputs[2] ?? ''] }
      : node,
  );
  const unfolded = unfoldNorms(withGraph(fused, { nodes }));
  const isComputed = ({ inputs }: GraphNode) => inputs[1] === 'computed';
  expect(unfolded.graph.nodes.filter(isComputed).map(({ inputs }) => inputs.length)).toEqual([
    3, 3, 3, 3, 3,
  ]);
});
