import { expect, test } from 'bun:test';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { OnnxGraph } from '../onnx/onnx-graph.ts';
import { BLOCK_VALUE_COUNT, type E5Container } from './e5-container.ts';
import { addPackedEmbedding } from './e5-int8-graph.ts';

const HIDDEN = 2 * BLOCK_VALUE_COUNT;
const VOCABULARY = 3;
/** What is stored for a value of a row, 0 to 15: no two rows, halves or blocks are alike. */
const storedOf = (row: number, column: number): number =>
  (5 * row + 3 * column + (column >> 4)) % 16;
const scaleOf = (row: number, block: number): number => 2 ** (row - 3 * block);

/** Row major, neighbours in one byte, as the container hands it out. */
function containerOf(): E5Container {
  const values = new Uint8Array((VOCABULARY * HIDDEN) / 2);
  for (let i = 0; i < values.length; i++) {
    const [row, column] = [Math.floor((2 * i) / HIDDEN), (2 * i) % HIDDEN];
    values[i] = storedOf(row, column) | (storedOf(row, column + 1) << 4);
  }
  const scales = Float16Array.from({ length: VOCABULARY * 2 }, (_, i) => scaleOf(i >> 1, i % 2));
  const quantized = () => ({ values, scales });
  return { hiddenSize: HIDDEN, vocabularySize: VOCABULARY, quantized } as unknown as E5Container;
}

test('a token’s row is its stored values less 8, times the scale of their block', async () => {
  const graph = new OnnxGraph();
  const output = addPackedEmbedding({ graph, weights: containerOf() });
  const parts = graph.toModel({
    ...{ name: 'test', producer: 'test', operatorSets: { '': 21 }, metadata: {} },
    inputs: [{ name: 'input_ids', type: 'int64', dimensions: ['batch', 'sequence'] }],
    outputs: [{ name: output, type: 'float', dimensions: ['batch', 'sequence', HIDDEN] }],
  });
  const session = await InferenceSession.create(Buffer.concat([...parts]));
  const input_ids = new Tensor('int64', BigInt64Array.of(2n, 0n, 1n, 2n), [2, 2]);
  const { word } = await session.run({ input_ids });
  await session.release();
  expect(word?.dims).toEqual([2, 2, HIDDEN]);
  const expected = [2, 0, 1, 2].flatMap((row) =>
    Array.from({ length: HIDDEN }, (_, column) => {
      const block = Math.floor(column / BLOCK_VALUE_COUNT);
      return (storedOf(row, column) - 8) * scaleOf(row, block);
    }),
  );
  expect(word?.data).toEqual(Float32Array.from(expected));
});
