import { invariant } from '../../../base/errors.ts';
import {
  type Attribute,
  createNode,
  ELEMENT,
  floatTensor,
  type Graph,
  type GraphNode,
  type GraphValue,
  intTensor,
  loadFloats,
  memoryData,
  type OnnxModel,
  opsetOf,
  type Tensor,
} from '../../onnx/model.ts';
import { demand } from '../../provision-error.ts';
import type { LinearLayer } from '../torch-file.ts';
import { prune, renameTensors, wiringOf, withGraph } from './graph-edit.ts';

/** What the finished graph calls its outputs. */
export interface HeadNames {
  readonly dense: string;
  readonly sparse: string;
  readonly multiVector: string;
}

/** The published heads of BGE-M3, where a model has them. */
export interface HeadLayers {
  /** `[1, dimension]`. */
  readonly sparse?: LinearLayer | undefined;
  /** `[rowDimension, dimension]`. */
  readonly multiVector?: LinearLayer | undefined;
}

/**
 * Names of everything that this pass adds begin so; the precision pass keeps all but the matrix
 * product in float32.
 */
export const HEADS_PREFIX = 'heads/';
/** The smallest length that is divided by; `torch.nn.functional.normalize` has the same. */
const LENGTH_MIN = 1e-12;
/** "To the end", as a slice says it. */
const TO_THE_END = 2n ** 63n - 1n;

/**
 * Gives the graph exactly the outputs that the server asks for:
 *
 * - dense `[batch, dimension]`: the state of the first token, scaled to length one; the graph's own
 *   pooling when it has
 *   one and that ends in a division by a length;
 * - sparse `[batch, sequence]`: `ReLU(w · state + b)` of each token, zero on padding;
 * - multi-vector `[batch, sequence - 1, rowDimension]`: `W · state + b` of each token but the
 *   first, scaled to length
 *   one, zero on padding.
 *
 * All else that the graph gave is dropped, with what only that needed.
 *
 * @throws ProvisionError when the graph has no hidden state or mask, or a layer does not fit it.
 */
export function appendHeads(source: OnnxModel, layers: HeadLayers, names: HeadNames): OnnxModel {
  // Some exports have our names already: whatever bears one steps aside, so that the new output can
  // take it.
  const aside = (name: string) => (Object.values(names).includes(name) ? `given/${name}` : name);
  const model = renameTensors(source, aside);
  const places = findPlaces(source.graph, aside);
  const builder = new GraphBuilder(model, HEADS_PREFIX);
  const hidden = places.hidden.name;
  const [batch, sequence] = ['batch', 'sequence'];
  const outputs: GraphValue[] = [];
  const give = (name: string, dims: readonly (number | string | null)[]): string => {
    outputs.push({ name, elementType: ELEMENT.float, dims });
    return name;
  };

  appendDense({ model, places, builder, output: give(names.dense, [batch, places.dimension]) });
  const mask = builder.node({
    op: 'Cast',
    name: 'mask',
    inputs: [places.mask.name],
    attributes: { to: { kind: 'int', value: BigInt(ELEMENT.float) } },
  });
  if (layers.sparse) {
    checkLayer({ layer: layers.sparse, name: 'sparse', places, rows: 1 });
    const scores = appendLinear({ builder, layer: layers.sparse, input: hidden, name: 'sparse' });
    const axis = builder.ints('sparse/axis', [-1]);
    const flat = builder.node({ op: 'Squeeze', name: 'sparse/flat', inputs: [scores, axis] });
    const positive = builder.node({ op: 'Relu', name: 'sparse/positive', inputs: [flat] });
    const output = give(names.sparse, [batch, sequence]);
    builder.node({ op: 'Mul', output, inputs: [positive, mask] });
  }
  if (layers.multiVector) {
    const layer = layers.multiVector;
    checkLayer({ layer, name: 'multi-vector', places, rows: undefined });
    // Another name for the dimension: it is one less than the sequence, and must not be taken for
    // it.
    const dims = [batch, 'sequence_less_one', layer.weight.dims[0] ?? null];
    const output = give(names.multiVector, dims);
    appendMultiVector({ builder, layer, hidden, mask, output });
  }
  const nodes = [...model.graph.nodes, ...builder.nodes];
  const constants = new Map([...model.graph.constants, ...builder.constants]);
  return prune(withGraph(model, { nodes, constants, outputs }));
}

function appendDense(options: {
  model: OnnxModel;
  places: GraphPlaces;
  builder: GraphBuilder;
  output: string;
}): void {
  const { model, places, builder, output } = options;
  const ready = places.dense;
  const last = wiringOf(model.graph.nodes).producer.get(ready?.name ?? '');
  if (ready && last?.op === 'Div') {
    builder.node({ op: 'Identity', output, inputs: [ready.name] });
    return;
  }
  const first = builder.int64Scalar('dense/first', 0);
  const state = builder.node({
    op: 'Gather',
    name: 'dense/state',
    inputs: [places.hidden.name, first],
    attributes: { axis: { kind: 'int', value: 1n } },
  });
  appendNormalize({ builder, input: state, name: 'dense', output });
}

function appendMultiVector(options: {
  builder: GraphBuilder;
  layer: LinearLayer;
  hidden: string;
  mask: string;
  output: string;
}): void {
  const { builder, layer, hidden, mask, output } = options;
  const one = builder.ints('multi_vector/one', [1]);
  const end = builder.ints('multi_vector/end', [TO_THE_END]);
  const last = builder.ints('multi_vector/last', [-1]);
  const slice = (name: string, input: string) =>
    builder.node({ op: 'Slice', name: `multi_vector/${name}`, inputs: [input, one, end, one] });
  const states = slice('states', hidden);
  const rows = appendLinear({ builder, layer, input: states, name: 'multi_vector' });
  const rest = slice('rest', mask);
  const column = builder.node({
    op: 'Unsqueeze',
    name: 'multi_vector/column',
    inputs: [rest, last],
  });
  const real = builder.node({ op: 'Mul', name: 'multi_vector/real', inputs: [rows, column] });
  appendNormalize({ builder, input: real, name: 'multi_vector', output });
}

/** `x · weightᵀ + bias`; the weight is stored transposed, so that engines need not do it. */
function appendLinear(options: {
  builder: GraphBuilder;
  layer: LinearLayer;
  input: string;
  name: string;
}): string {
  const { builder, layer, input, name } = options;
  const weight = builder.constant(transposed(layer.weight, `${name}/weight`));
  const bias = builder.constant({ ...layer.bias, name: `${name}/bias` });
  const product = builder.node({
    op: 'MatMul',
    name: `${name}/product`,
    inputs: [input, weight],
  });
  return builder.node({ op: 'Add', name: `${name}/linear`, inputs: [product, bias] });
}

function appendNormalize(options: {
  builder: GraphBuilder;
  input: string;
  name: string;
  output: string;
}): void {
  const { builder, input, name, output } = options;
  const length = builder.lastAxisLength(`${name}/length`, input);
  const least = builder.scalar(`${name}/least`, LENGTH_MIN);
  const divisor = builder.node({ op: 'Max', name: `${name}/divisor`, inputs: [length, least] });
  builder.node({ op: 'Div', output, inputs: [input, divisor] });
}

function checkLayer(options: {
  layer: LinearLayer;
  name: string;
  places: GraphPlaces;
  rows: number | undefined;
}): void {
  const { layer, name, places, rows } = options;
  const [outputs, inputs] = layer.weight.dims;
  demand(
    inputs === places.dimension && (rows === undefined || outputs === rows),
    `The ${name} head is [${layer.weight.dims}], ` +
      `but the model's states have ${places.dimension} values.`,
  );
}

function transposed(weight: Tensor, name: string): Tensor {
  const [rows = 0, columns = 0] = weight.dims;
  const values = loadFloats(weight);
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      out[column * rows + row] = values[row * columns + column] ?? 0;
    }
  }
  return floatTensor(name, [columns, rows], out);
}

/** What public exports of this model family call the last hidden state, in order of preference. */
const HIDDEN_NAMES = ['token_embeddings', 'last_hidden_state', 'hidden_states', 'hidden_state'];
/** What they call one pooled vector a text. */
const DENSE_NAMES = ['sentence_embedding', 'dense_vecs', 'dense', 'dense_embedding', 'embeddings'];
/** What they call the mask. */
const MASK_NAMES = ['attention_mask', 'mask', 'input_mask'];

/** Where in a graph the pieces lie that pooling and heads are built on. */
export interface GraphPlaces {
  /** `[batch, sequence, dimension]`, float32. */
  readonly hidden: GraphValue;
  /** Values in one token state. */
  readonly dimension: number;
  /** `[batch, dimension]`, when the graph pools by itself. */
  readonly dense: GraphValue | undefined;
  readonly mask: GraphValue;
}

/**
 * Finds hidden state, pooled vector and mask by their shapes, and among several by the names that
 * public exports use.
 *
 * @param rename what the tensors found will be called by the time the places are used.
 * @throws ProvisionError listing the outputs when none fits.
 */
function findPlaces(graph: Graph, rename: (name: string) => string = (name) => name): GraphPlaces {
  const floats = graph.outputs.filter((output) => output.elementType === ELEMENT.float);
  const hidden = choose(
    floats.filter((output) => output.dims?.length === 3 && Number(output.dims[2]) > 1),
    HIDDEN_NAMES,
  );
  demand(
    hidden !== undefined,
    `No output looks like a hidden state [batch, sequence, dimension]: ${listOf(graph.outputs)}.`,
  );
  const dimension = Number(hidden.dims?.[2]);
  const dense = choose(
    floats.filter((output) => output.dims?.length === 2 && DENSE_NAMES.includes(output.name)),
    DENSE_NAMES,
  );
  const mask = graph.inputs.find((input) => MASK_NAMES.includes(input.name));
  demand(mask !== undefined, `No input is an attention mask: ${listOf(graph.inputs)}.`);
  const to = (value: GraphValue): GraphValue => ({ ...value, name: rename(value.name) });
  return { hidden: to(hidden), dimension, dense: dense && to(dense), mask: to(mask) };
}

/** The candidate with the earliest name of the list; a single one whatever it is called. */
function choose(candidates: GraphValue[], names: readonly string[]): GraphValue | undefined {
  for (const name of names) {
    const found = candidates.find((candidate) => candidate.name === name);
    if (found) return found;
  }
  return candidates.length === 1 ? candidates[0] : undefined;
}

function listOf(values: readonly GraphValue[]): string {
  return values.map((value) => `${value.name} [${value.dims ?? '?'}]`).join(', ');
}

/** Since this version of the operators, the axes of every reduction are an input. */
export const REDUCE_AXES_INPUT_OPSET = 18;

/**
 * Collects nodes and constants to be added to a graph. Names start with `prefix`, which no tensor
 * of the graph may do: passes run once.
 */
class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  readonly constants = new Map<string, Tensor>();
  readonly #prefix: string;
  readonly #opset: number;

  constructor(model: OnnxModel, prefix: string) {
    const { graph } = model;
    const names = [...graph.nodes.flatMap((node) => node.outputs), ...graph.constants.keys()];
    invariant(!names.some((name) => name.startsWith(prefix)), `${prefix} was added before.`);
    this.#prefix = prefix;
    this.#opset = opsetOf(model);
  }

  /**
   * Adds a standard node and returns its output's name: `<prefix><name>`, or `output` as it stands.
   */
  node(options: Omit<Parameters<typeof createNode>[0], 'output'> & Naming): string {
    const output = options.output ?? `${this.#prefix}${options.name}`;
    this.nodes.push(createNode({ ...options, output }));
    return output;
  }

  /** Adds the length of each row of the last axis, which stays with one element. */
  lastAxisLength(name: string, input: string): string {
    const attributes: Record<string, Attribute> = { keepdims: { kind: 'int', value: 1n } };
    const inputs = [input];
    if (this.#opset >= REDUCE_AXES_INPUT_OPSET) inputs.push(this.ints(`${name}/axes`, [-1]));
    else attributes.axes = { kind: 'ints', value: [-1n] };
    return this.node({ op: 'ReduceL2', name, inputs, attributes });
  }

  /** Adds a constant and returns its name. */
  constant(tensor: Tensor): string {
    const name = `${this.#prefix}${tensor.name}`;
    this.constants.set(name, { ...tensor, name });
    return name;
  }

  ints(name: string, values: readonly (bigint | number)[]): string {
    return this.constant(intTensor(name, values));
  }

  scalar(name: string, value: number): string {
    return this.constant(floatTensor(name, [], [value]));
  }

  int64Scalar(name: string, value: number): string {
    const bytes = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
    return this.constant({ name, dims: [], elementType: ELEMENT.int64, data: memoryData(bytes) });
  }
}

/** Either a name under the builder's prefix, or a full name, as outputs of the graph have. */
type Naming = { name: string; output?: undefined } | { output: string; name?: undefined };
