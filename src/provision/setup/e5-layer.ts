import type { OnnxGraph } from '../onnx/onnx-graph.ts';
import { BLOCK_VALUE_COUNT, type E5Container } from './e5-container.ts';

/** The graph under construction and the weights that go into it, both borrowed. */
export interface GraphContext {
  readonly graph: OnnxGraph;
  readonly weights: E5Container;
}

/** The domain of ONNX Runtime's own operators. */
export const ORT_DOMAIN = 'com.microsoft';

// The model's configuration: `layer_norm_eps`.
const LAYER_NORM_EPSILON = 1e-12;

/**
 * Adds one encoder layer: attention and a feed-forward network, each added to its input and
 * normalised.
 *
 * @param layer the tensors' prefix, and the names of the states that go in and come out.
 * @returns `layer.output`.
 */
export function addLayer(
  context: GraphContext,
  layer: { readonly prefix: string; readonly states: string; readonly output: string },
): string {
  const { graph, weights } = context;
  const { prefix: p, states, output } = layer;
  const { hiddenSize, feedForwardSize } = weights;
  addAttention(context, p, states);
  const attended = addLinear(context, {
    ...{ states: `${p}ctxr`, output: `${p}ao`, weights: [`${p}ao`] },
    ...{ rowCount: hiddenSize, columnCount: hiddenSize },
  });
  graph.node({ operator: 'Add', inputs: [states, attended], outputs: [`${p}r1`] });
  addLayerNorm(context, { states: `${p}r1`, weight: `${p}aln`, output: `${p}x1` });
  const widened = addLinear(context, {
    ...{ states: `${p}x1`, output: `${p}fi`, weights: [`${p}fi`] },
    ...{ rowCount: feedForwardSize, columnCount: hiddenSize },
  });
  graph.node({ operator: 'Gelu', inputs: [widened], outputs: [`${p}g`] });
  const narrowed = addLinear(context, {
    ...{ states: `${p}g`, output: `${p}fo`, weights: [`${p}fo`] },
    ...{ rowCount: hiddenSize, columnCount: feedForwardSize },
  });
  graph.node({ operator: 'Add', inputs: [`${p}x1`, narrowed], outputs: [`${p}r2`] });
  return addLayerNorm(context, { states: `${p}r2`, weight: `${p}oln`, output });
}

/**
 * Scaled dot-product attention; query, key and value come from one multiplication. Its output is
 * `<prefix>ctxr`.
 */
function addAttention({ graph, weights }: GraphContext, p: string, states: string): void {
  const { hiddenSize } = weights;
  const qkv = addLinear(
    { graph, weights },
    {
      ...{ states, output: `${p}qkv`, weights: [`${p}q`, `${p}k`, `${p}v`] },
      ...{ rowCount: hiddenSize, columnCount: hiddenSize },
    },
  );
  graph.node({
    operator: 'Split',
    inputs: [qkv],
    outputs: [`${p}q`, `${p}k`, `${p}v`],
    attributes: { axis: -1, num_outputs: 3 },
  });
  const transpose = (input: string, output: string, perm: readonly number[]): string =>
    graph.node({ operator: 'Transpose', inputs: [input], outputs: [output], attributes: { perm } });
  for (const part of ['q', 'k', 'v']) {
    const name = p + part;
    graph.node({ operator: 'Reshape', inputs: [name, 'shp_h'], outputs: [`${name}r`] });
    // Keys are turned the other way, so that the product below is that of each query with each key.
    transpose(`${name}r`, `${name}t`, part === 'k' ? [0, 2, 3, 1] : [0, 2, 1, 3]);
  }
  graph.node({ operator: 'Mul', inputs: [`${p}qt`, 'qscale'], outputs: [`${p}qs`] });
  graph.node({ operator: 'MatMul', inputs: [`${p}qs`, `${p}kt`], outputs: [`${p}att`] });
  graph.node({ operator: 'Add', inputs: [`${p}att`, 'abias'], outputs: [`${p}attm`] });
  const softmax = { operator: 'Softmax', attributes: { axis: -1 } };
  graph.node({ ...softmax, inputs: [`${p}attm`], outputs: [`${p}prob`] });
  graph.node({ operator: 'MatMul', inputs: [`${p}prob`, `${p}vt`], outputs: [`${p}ctx`] });
  transpose(`${p}ctx`, `${p}ctxt`, [0, 2, 1, 3]);
  graph.node({ operator: 'Reshape', inputs: [`${p}ctxt`, 'shp_m'], outputs: [`${p}ctxr`] });
}

/**
 * `states · weightᵀ + bias`; several weights of equal shape are stacked into one multiplication.
 */
function addLinear(
  { graph, weights }: GraphContext,
  linear: {
    readonly states: string;
    readonly output: string;
    readonly weights: readonly string[];
    readonly rowCount: number;
    readonly columnCount: number;
  },
): string {
  const { states, output, columnCount } = linear;
  const rowCount = linear.rowCount * linear.weights.length;
  const parts = linear.weights.map((name) => weights.quantized(`${name}.w`));
  const values = Buffer.concat(parts.map((part) => part.values));
  const blockBytes = BLOCK_VALUE_COUNT / 2;
  const dimensions = [rowCount, columnCount / BLOCK_VALUE_COUNT, blockBytes];
  graph.constant(`${output}.q`, { type: 'uint8', dimensions, bytes: values });
  graph.floats(`${output}.s`, joinFloats(parts.map((part) => Float32Array.from(part.scales))));
  graph.node({
    operator: 'MatMulNBits',
    inputs: [states, `${output}.q`, `${output}.s`],
    outputs: [`${output}_mm`],
    // Accuracy level 0: activations stay in float32, so that a text's vector does not depend on its
    // neighbours.
    attributes: {
      K: columnCount,
      N: rowCount,
      bits: 4,
      block_size: BLOCK_VALUE_COUNT,
      accuracy_level: 0,
    },
    domain: ORT_DOMAIN,
  });
  graph.floats(
    `${output}.b`,
    joinFloats(linear.weights.map((name) => weights.floats(`${name}.b`))),
  );
  return graph.node({
    operator: 'Add',
    inputs: [`${output}_mm`, `${output}.b`],
    outputs: [output],
  });
}

/** Adds a layer normalisation over the last axis and returns its output. */
export function addLayerNorm(
  { graph, weights }: GraphContext,
  norm: { readonly states: string; readonly weight: string; readonly output: string },
): string {
  const { states, weight, output } = norm;
  return graph.node({
    operator: 'LayerNormalization',
    inputs: [
      states,
      graph.floats(`${weight}.w`, weights.floats(`${weight}.w`)),
      graph.floats(`${weight}.b`, weights.floats(`${weight}.b`)),
    ],
    outputs: [output],
    attributes: { axis: -1, epsilon: { float: LAYER_NORM_EPSILON } },
  });
}

function joinFloats(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}
