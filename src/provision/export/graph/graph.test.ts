import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Golden, loadGolden, SMALL_MODEL_FOLDER } from '../../../testing/golden/xlmr-small.ts';
import { ELEMENT, type GraphNode, type OnnxModel } from '../../onnx/model.ts';
import { createOnnxSession, type ModelRunner } from '../../onnx/onnx-session.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { readLinearLayer } from '../torch-file.ts';
import { appendHeads, type HeadLayers } from './append-heads.ts';
import { findAttention } from './attention.ts';
import { hoistConstants, renameTensors, wiringOf, withGraph } from './graph-edit.ts';
import { fuseLayerNorms, prepareGraphs, upgradeOpset } from './prepare-graph.ts';

const NAMES = { dense: 'dense_vecs', sparse: 'sparse_vecs', multiVector: 'colbert_vecs' };
const HIDDEN = 32;
const sourcePath = (variant: string) => join(SMALL_MODEL_FOLDER, variant, 'model.onnx');

let folder: string;
let golden: Golden;
let layers: HeadLayers;
const runners: ModelRunner[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'graph-test-'));
  golden = await loadGolden();
  layers = {
    sparse: await readLinearLayer(join(SMALL_MODEL_FOLDER, 'hub', 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(SMALL_MODEL_FOLDER, 'hub', 'colbert_linear.pt')),
  };
});
afterAll(async () => {
  await Promise.all(runners.map((runner) => runner.close()));
  await rm(folder, { recursive: true });
});

async function load(model: OnnxModel): Promise<ModelRunner> {
  const path = join(await mkdtemp(join(folder, 'model-')), 'model.onnx');
  writeModel(model, path);
  const runner = await createOnnxSession(path);
  runners.push(runner);
  return runner;
}

function differenceMax(a: Float32Array | undefined, b: Float32Array): number {
  expect(a?.length).toBe(b.length);
  return b.reduce((max, value, index) => Math.max(max, Math.abs(value - (a?.[index] ?? NaN))), 0);
}

function cosine(a: Float32Array | undefined, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) =>
    x.reduce((sum, v, i) => sum + v * (y[i] ?? 0), 0);
  return a ? dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)) : NaN;
}

const variants = ['hub', 'bare'].map((variant) => [variant] as const);

describe.each(variants)('the %s export, prepared', (variant) => {
  let exact: ModelRunner;
  let graphs: ReturnType<typeof prepareGraphs>;
  beforeAll(async () => {
    graphs = prepareGraphs(readModel(sourcePath(variant)), layers, NAMES);
    exact = await load(graphs.exact);
  });

  test('answers what PyTorch answers, within 1e-5', async () => {
    for (const text of golden.texts) {
      const got = await exact.run([text.ids]);
      expect([...got.keys()].sort()).toEqual(['colbert_vecs', 'dense_vecs', 'sparse_vecs']);
      expect(got.get('sparse_vecs')?.dims).toEqual([1, text.ids.length]);
      expect(got.get('colbert_vecs')?.dims).toEqual([1, text.ids.length - 1, HIDDEN]);
      expect(differenceMax(got.get('dense_vecs')?.values, text.dense)).toBeLessThan(1e-5);
      expect(differenceMax(got.get('sparse_vecs')?.values, text.tokenWeights)).toBeLessThan(1e-5);
      expect(differenceMax(got.get('colbert_vecs')?.values, text.multiVector)).toBeLessThan(1e-5);
    }
  });

  test('names the same sparse ids', async () => {
    for (const text of golden.texts) {
      const weights = (await exact.run([text.ids])).get('sparse_vecs')?.values ?? [];
      const ids = new Set(text.ids.filter((id, index) => id > 3 && (weights[index] ?? 0) > 0));
      expect([...ids]).toEqual([...text.sparse.indices]);
    }
  });

  test('answers a padded batch as PyTorch does, with zeros on padding', async () => {
    const batch = golden.paddedBatch;
    const ids = batch.texts.map((index) => golden.texts[index]?.ids ?? []);
    const got = await exact.run(ids, batch.tokenCount);
    expect(differenceMax(got.get('dense_vecs')?.values, batch.dense)).toBeLessThan(1e-5);
    expect(differenceMax(got.get('sparse_vecs')?.values, batch.tokenWeights)).toBeLessThan(1e-5);
    expect(differenceMax(got.get('colbert_vecs')?.values, batch.multiVector)).toBeLessThan(1e-5);
    const weights = got.get('sparse_vecs')?.values ?? new Float32Array();
    const rows = got.get('colbert_vecs')?.values ?? new Float32Array();
    ids.forEach((text, row) => {
      const end = (row + 1) * batch.tokenCount;
      const padding = weights.subarray(row * batch.tokenCount + text.length, end);
      expect(padding.every((value) => value === 0)).toBe(true);
      const width = (batch.tokenCount - 1) * HIDDEN;
      const rest = rows.subarray(row * width + (text.length - 1) * HIDDEN, (row + 1) * width);
      expect(rest.length).toBeGreaterThan(0);
      expect(rest.every((value) => value === 0)).toBe(true);
    });
  });

  test.each(['half', 'float', 'float-softmax'] as const)(
    'in float16 with attention in %s, stays within the gate and keeps the types outside',
    async (attention) => {
      const graph = graphs.half(attention);
      const half = await load(graph);
      for (const text of golden.texts) {
        const got = await half.run([text.ids], text.ids.length + 3);
        const alone = await half.run([text.ids]);
        expect(cosine(got.get('dense_vecs')?.values, text.dense)).toBeGreaterThan(0.9998);
        expect(cosine(alone.get('sparse_vecs')?.values, text.tokenWeights)).toBeGreaterThan(0.9998);
        expect(cosine(alone.get('colbert_vecs')?.values, text.multiVector)).toBeGreaterThan(0.9998);
      }
      expect(graph.graph.inputs).toEqual(graphs.exact.graph.inputs);
      expect(graph.graph.outputs).toEqual(graphs.exact.graph.outputs);
    },
  );

  test('has no cast between the products of attention, but where softmax alone is in float32', () => {
    const castsWithin = (model: OnnxModel) => {
      const producers = wiringOf(model.graph.nodes).producer;
      return findAttention(model).map(({ scores, softmax, context }) => {
        const casts: string[] = [];
        for (let node = producers.get(context.inputs[0] ?? ''); node && node !== scores; ) {
          if (node.op === 'Cast') casts.push(node.name);
          const next = node.inputs.map((name) => producers.get(name));
          node = next.find((one) => one === scores) ?? next[0];
        }
        return { casts: casts.length, isSoftmax: softmax.op === 'Softmax' };
      });
    };
    expect(castsWithin(graphs.half('half'))).toEqual([
      { casts: 0, isSoftmax: true },
      { casts: 0, isSoftmax: true },
    ]);
    // It is fused all the same when queries, keys and values are cast up, from TensorRT 11.3 on.
    const around = graphs.half('float');
    const { producer } = wiringOf(around.graph.nodes);
    for (const { scores, context } of findAttention(around)) {
      const makers = [...scores.inputs, context.inputs[1] ?? ''].map(
        (name) => producer.get(name)?.op,
      );
      expect(makers).toEqual(['Cast', 'Cast', 'Cast']);
    }
    // The cast before softmax hides the product from it: it is no attention to TensorRT either.
    expect(findAttention(graphs.half('float-softmax'))).toEqual([]);
  });

  test('in bfloat16, is the graph in float16 with other numbers', () => {
    const [half, other] = [graphs.half('half').graph, graphs.half('bfloat16').graph];
    const shapeOf = ({ op, inputs, outputs }: GraphNode) => [op, inputs, outputs];
    expect(other.nodes.map(shapeOf)).toEqual(half.nodes.map(shapeOf));
    const targets = (nodes: readonly GraphNode[]) =>
      nodes.flatMap(({ attributes }) => [...attributes.values()]).map(({ value }) => value);
    expect(targets(other.nodes)).not.toContain(BigInt(ELEMENT.float16));
    for (const [name, { elementType, data }] of half.constants) {
      const twin = other.constants.get(name);
      if (elementType !== ELEMENT.float16) continue;
      expect(twin?.elementType).toBe(ELEMENT.bfloat16);
      expect(twin?.data.byteCount).toBe(data.byteCount);
    }
  });

  test('in float16, keeps float32 where numbers could leave its range, and nowhere else', () => {
    const { nodes, constants } = graphs.half('float-softmax').graph;
    const halves = new Set(
      [...constants.values()].filter((t) => t.elementType === ELEMENT.float16).map((t) => t.name),
    );
    const isHalf = (name: string) => halves.has(name);
    for (const node of nodes) {
      const to = node.attributes.get('to');
      const castsToHalf = to?.kind === 'int' && to.value === BigInt(ELEMENT.float16);
      const givesHalf = node.op === 'Cast' ? castsToHalf : node.inputs.some(isHalf);
      if (givesHalf) for (const output of node.outputs) halves.add(output);
    }
    const products = nodes.filter((node) => node.op === 'MatMul');
    const inHalf = products.filter((node) => node.inputs.some(isHalf));
    // Six matrices and two attention products a layer, and the multi-vector head; the sparse head
    // stays out.
    expect([products.length, inHalf.length]).toEqual([18, 17]);
    for (const op of ['LayerNormalization', 'Softmax', 'ReduceL2', 'Sqrt', 'Clip', 'Max']) {
      for (const node of nodes.filter((one) => one.op === op)) {
        expect(node.inputs.filter(isHalf)).toEqual([]);
      }
    }
    expect(nodes.filter((node) => node.op === 'LayerNormalization')).toHaveLength(5);
    // TensorRT fuses attention only when the scale stands before the product: no score is scaled
    // any more.
    const scores = new Set(products.slice(0, -1).flatMap((node) => node.outputs));
    expect(nodes.filter((n) => n.op === 'Div' && scores.has(n.inputs[0] ?? ''))).toEqual([]);
    const bytes = (name: string) => constants.get(name)?.data.byteCount ?? 0;
    const large = [...constants.values()].filter((tensor) => tensor.data.byteCount > 4_200);
    expect(large.filter((tensor) => tensor.elementType === ELEMENT.float)).toEqual([]);
    expect(bytes('heads/sparse/weight')).toBe(HIDDEN * 4);
  });
});

describe('graphs of other exporters', () => {
  test('outputs that have our names already step aside', async () => {
    const source = renameTensors(readModel(sourcePath('hub')), (name) =>
      name === 'sentence_embedding' ? 'dense_vecs' : name,
    );
    const model = await load(prepareGraphs(source, layers, NAMES).exact);
    const [text] = golden.texts;
    const got = await model.run([text?.ids ?? []]);
    expect(
      differenceMax(got.get('dense_vecs')?.values, text?.dense ?? new Float32Array()),
    ).toBeLessThan(1e-5);
  });

  test('a model without heads gives the dense vector alone', () => {
    const { graph } = prepareGraphs(readModel(sourcePath('bare')), {}, NAMES).exact;
    expect(graph.outputs.map((output) => output.name)).toEqual(['dense_vecs']);
  });

  test('a newer operator set is left as it is, and its reductions take axes as an input', () => {
    const source = hoistConstants(readModel(sourcePath('bare')));
    const newer = { ...source, opsets: new Map([['', 18]]) };
    const { nodes } = appendHeads(upgradeOpset(newer), layers, NAMES).graph;
    expect(nodes.find((node) => node.op === 'ReduceL2')?.inputs).toHaveLength(2);
  });

  test('an unknown operator of an old set is refused by name', () => {
    const source = readModel(sourcePath('hub'));
    const nodes = source.graph.nodes.map((node) =>
      node.op === 'Erf' ? { ...node, op: 'Resize' } : node,
    );
    expect(() => upgradeOpset(withGraph(source, { nodes }))).toThrow(
      /Resize of an old operator set/,
    );
    expect(() => upgradeOpset({ ...source, opsets: new Map([['', 9]]) })).toThrow('version 9');
  });

  test('a softmax over several axes is refused', () => {
    const source = readModel(sourcePath('hub'));
    const nodes = source.graph.nodes.map((node) =>
      node.op === 'Softmax' ? { ...node, attributes: new Map() } : node,
    );
    expect(() => upgradeOpset(withGraph(source, { nodes }))).toThrow(/several axes/);
  });

  test('a graph with no hidden state is refused with its outputs listed', () => {
    const source = readModel(sourcePath('hub'));
    const outputs = source.graph.outputs.slice(1);
    const message = /hidden state.*sentence_embedding \[batch/;
    expect(() => prepareGraphs(withGraph(source, { outputs }), layers, NAMES)).toThrow(message);
  });

  test('a head of another width is refused', () => {
    const swapped = { sparse: layers.multiVector };
    expect(() => prepareGraphs(readModel(sourcePath('hub')), swapped, NAMES)).toThrow(
      'The sparse head is [32,32]',
    );
  });

  test('something that only looks like a layer norm stays in pieces', () => {
    const source = upgradeOpset(hoistConstants(readModel(sourcePath('hub'))));
    const nodes = source.graph.nodes.map((node) =>
      node.op === 'ReduceMean'
        ? {
            ...node,
            attributes: new Map([
              ...node.attributes,
              ['axes', { kind: 'ints', value: [1n] } as const],
            ]),
          }
        : node,
    );
    const fused = fuseLayerNorms(withGraph(source, { nodes }));
    expect(fused.graph.nodes.filter((node) => node.op === 'LayerNormalization')).toEqual([]);
  });
});
