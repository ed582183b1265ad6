/** Each pass on graphs of a few nodes, for what the small model does not happen to contain. */
import { describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Attribute,
  createNode,
  ELEMENT,
  floatTensor,
  type GraphNode,
  intTensor,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';
import { readModel } from '../../onnx/read-model.ts';
import { writeModel } from '../../onnx/write-model.ts';
import { toHalfPrecision } from './half-precision.ts';
import { fuseLayerNorms, upgradeOpset } from './prepare-graph.ts';

function modelOf(options: {
  nodes: GraphNode[];
  constants?: Tensor[];
  outputs: string[];
  opset?: number;
}): OnnxModel {
  const { nodes, constants = [], outputs, opset = 17 } = options;
  const value = (name: string) => ({ name, elementType: ELEMENT.float, dims: ['rows', 4] });
  return {
    irVersion: 8,
    opsets: new Map([['', opset]]),
    metadata: new Map(),
    graph: {
      name: 'few',
      nodes,
      constants: new Map(constants.map((tensor) => [tensor.name, tensor])),
      inputs: [value('x')],
      outputs: outputs.map(value),
    },
  };
}

const node = (
  op: string,
  inputs: string[],
  output: string,
  attributes: Record<string, Attribute> = {},
) => createNode({ op, inputs, output, attributes });
const ones = (name: string, dims: number[]) =>
  floatTensor(name, dims, new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(1));

describe('precision', () => {
  /**
   * What the node that makes `y` from a matrix product reads, and whether it reads it in float16.
   */
  function readsHalf(op: string, extra: string[] = [], constants: Tensor[] = []): boolean {
    const product = node('MatMul', ['x', 'w'], 'product');
    const nodes = [product, node(op, ['product', ...extra], 'y'), node('Neg', ['y'], 'z')];
    const all = [ones('w', [4, 4]), ...constants];
    const { graph } = toHalfPrecision(modelOf({ nodes, constants: all, outputs: ['z'] }));
    const made = graph.nodes.find((one) => one.outputs.includes('product'));
    // The product itself always runs in float16.
    expect(made?.inputs.every((name) => name.endsWith('/half'))).toBe(true);
    return (
      graph.nodes.find((one) => one.op === op && one.outputs[0] === 'y')?.inputs[0] === 'product'
    );
  }

  test.each(['Softmax', 'ReduceMean', 'ReduceL2', 'Pow', 'Exp', 'Sqrt', 'Clip', 'LogSoftmax'])(
    '%s of a product runs in float32',
    (op) => {
      expect(readsHalf(op)).toBe(false);
    },
  );

  test('a layer norm of a product runs in float32, scale and bias too', () => {
    const constants = [ones('scale', [4]), ones('bias', [4])];
    expect(readsHalf('LayerNormalization', ['scale', 'bias'], constants)).toBe(false);
  });

  test('a bias follows its product into float16, a mask does not', () => {
    expect(readsHalf('Add', ['bias'], [ones('bias', [4])])).toBe(true);
    const mask = floatTensor('mask', [4], [0, 0, -3.4e38, 0]);
    expect(readsHalf('Add', ['mask'], [mask])).toBe(false);
  });

  test('a sum with something in float32 is in float32', () => {
    expect(readsHalf('Add', ['x'])).toBe(false);
  });

  test('an output of the graph keeps its type', () => {
    const nodes = [node('MatMul', ['x', 'w'], 'y')];
    const half = toHalfPrecision(
      modelOf({ nodes, constants: [ones('w', [4, 4])], outputs: ['y'] }),
    );
    expect(half.graph.nodes).toEqual(nodes);
  });
});

describe('operators of an old version', () => {
  test('get their axes and sizes as inputs', () => {
    const ints = (...values: bigint[]): Attribute => ({ kind: 'ints', value: values });
    const nodes = [
      node('Squeeze', ['x'], 'a', { axes: ints(1n) }),
      node('Unsqueeze', ['a'], 'b', { axes: ints(0n, -1n) }),
      node('Split', ['b'], 'c', { split: ints(2n, 3n), axis: { kind: 'int', value: 1n } }),
      node('ReduceSum', ['c'], 'd', { axes: ints(1n), keepdims: { kind: 'int', value: 0n } }),
      node('Squeeze', ['d'], 'e'),
    ];
    const { graph, opsets } = upgradeOpset(modelOf({ nodes, outputs: ['e'], opset: 11 }));
    expect(opsets.get('')).toBe(17);
    expect(graph.nodes.map((one) => [one.op, one.inputs, [...one.attributes.keys()]])).toEqual([
      ['Squeeze', ['x', 'a/axes'], []],
      ['Unsqueeze', ['a', 'b/axes'], []],
      ['Split', ['b', 'c/split'], ['axis']],
      ['ReduceSum', ['c', 'd/axes'], ['keepdims']],
      ['Squeeze', ['d'], []],
    ]);
    expect(graph.constants.get('c/split')).toMatchObject(intTensor('c/split', [2, 3]));
  });
});

describe('a layer norm in pieces', () => {
  function pieces(
    change: Partial<{ power: number; first: bigint; second: bigint }> = {},
  ): OnnxModel {
    const axes = (value: bigint): Record<string, Attribute> => ({
      axes: { kind: 'ints', value: [value] },
    });
    const nodes = [
      node('ReduceMean', ['x'], 'mean', axes(change.first ?? -1n)),
      node('Sub', ['x', 'mean'], 'centred'),
      node('Pow', ['centred', 'power'], 'square'),
      node('ReduceMean', ['square'], 'variance', axes(change.second ?? -1n)),
      node('Add', ['epsilon', 'variance'], 'shifted'),
      node('Sqrt', ['shifted'], 'deviation'),
      node('Div', ['centred', 'deviation'], 'normal'),
      node('Mul', ['scale', 'normal'], 'scaled'),
      node('Add', ['bias', 'scaled'], 'y'),
    ];
    const constants = [
      floatTensor('power', [], [change.power ?? 2]),
      floatTensor('epsilon', [], [1e-5]),
      ones('scale', [4]),
      ones('bias', [4]),
    ];
    return modelOf({ nodes, constants, outputs: ['y'] });
  }
  const lastOp = (model: OnnxModel) => fuseLayerNorms(model).graph.nodes.at(-1);

  test('becomes one, whichever side its constants are on', () => {
    const fused = lastOp(pieces());
    expect(fused).toMatchObject({ op: 'LayerNormalization', inputs: ['x', 'scale', 'bias'] });
    const epsilon = fused?.attributes.get('epsilon');
    expect(epsilon?.kind === 'float' && epsilon.value).toBeCloseTo(1e-5, 9);
  });

  test.each([{ power: 3 }, { first: 1n }, { second: 0n }])('with %p is none', (change) => {
    expect(lastOp(pieces(change))?.op).toBe('Add');
  });
});

test('weights outside start on whole pages, so that they can be mapped', () => {
  const folder = mkdtempSync(join(tmpdir(), 'passes-'));
  const nodes = [node('MatMul', ['x', 'v'], 'a'), node('MatMul', ['x', 'w'], 'b')];
  const constants = [ones('v', [4, 301]), ones('w', [4, 302])];
  const path = join(folder, 'model.onnx');
  writeModel(modelOf({ nodes, constants, outputs: ['a', 'b'] }), path);
  expect(readModel(path).graph.constants.get('w')?.data.byteCount).toBe(4 * 302 * 4);
  // The first takes two pages in part; the second starts on the third.
  expect(Bun.file(`${path}_data`).size).toBe(2 * 4_096 + 4 * 302 * 4);
  rmSync(folder, { recursive: true });
});
