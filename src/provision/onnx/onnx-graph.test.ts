import { expect, test } from 'bun:test';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { OnnxGraph } from './onnx-graph.ts';

test('ONNX Runtime loads and computes what the graph says', async () => {
  const graph = new OnnxGraph();
  graph.floats('weight', Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
  graph.integers('axis', -1);
  graph.node({ operator: 'MatMul', inputs: ['x', 'weight'], outputs: ['product'] });
  graph.node({
    operator: 'Transpose',
    inputs: ['product'],
    outputs: ['turned'],
    attributes: { perm: [1, 0] },
  });
  graph.node({
    operator: 'LeakyRelu',
    inputs: ['turned'],
    outputs: ['leaky'],
    attributes: { alpha: { float: 0.5 } },
  });
  graph.node({
    operator: 'ReduceSum',
    inputs: ['leaky', 'axis'],
    outputs: ['sum'],
    attributes: { keepdims: 0 },
  });
  const parts = graph.toModel({
    name: 'test',
    producer: 'test',
    inputs: [{ name: 'x', type: 'float', dimensions: ['rows', 3] }],
    outputs: [{ name: 'sum', type: 'float', dimensions: [2] }],
    operatorSets: { '': 21 },
    metadata: { note: 'value' },
  });
  const session = await InferenceSession.create(Buffer.concat([...parts]));
  const x = new Tensor('float32', Float32Array.of(1, 0, 0, 0, -2, 0), [2, 3]);
  const { sum } = await session.run({ x });
  await session.release();
  // x · weight = [[1, 2], [-6, -8]]; turned [[1, -6], [2, -8]]; leaky [[1, -3], [2, -4]].
  expect(sum?.dims).toEqual([2]);
  expect(sum?.data).toEqual(Float32Array.of(-2, -2));
});

test('an attribute may be a string', async () => {
  const graph = new OnnxGraph();
  graph.constant('places', { type: 'uint8', dimensions: [], bytes: Uint8Array.of(4) });
  graph.node({
    operator: 'BitShift',
    inputs: ['x', 'places'],
    outputs: ['shifted'],
    attributes: { direction: 'RIGHT' },
  });
  const parts = graph.toModel({
    ...{ name: 'test', producer: 'test', operatorSets: { '': 21 }, metadata: {} },
    inputs: [{ name: 'x', type: 'uint8', dimensions: [2] }],
    outputs: [{ name: 'shifted', type: 'uint8', dimensions: [2] }],
  });
  const session = await InferenceSession.create(Buffer.concat([...parts]));
  const { shifted } = await session.run({ x: new Tensor('uint8', Uint8Array.of(0x5a, 0xf3), [2]) });
  await session.release();
  expect(shifted?.data).toEqual(Uint8Array.of(0x05, 0x0f));
});
