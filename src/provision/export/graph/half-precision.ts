import {
  bfloat16Data,
  ELEMENT,
  elementCountOf,
  type Graph,
  type GraphNode,
  halfData,
  intAttribute,
  loadFloats,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';
import { HEADS_PREFIX } from './append-heads.ts';
import { type AttentionPrecision, boundMasks, forcedPrecisions } from './attention.ts';
import { withGraph } from './graph-edit.ts';

/** Matrix products: nearly all of the work, and safe in float16, as they sum in float32 inside. */
const PRODUCTS = new Set(['MatMul', 'Gemm']);
/** They only move numbers: they stay in whatever precision these came in. */
const MOVES = new Set(
  'Reshape Transpose Squeeze Unsqueeze Slice Split Identity Expand Concat Flatten'.split(' '),
);
/**
 * One number in, one number out, about as large as it: biases and activation functions follow their
 * product.
 */
const POINTWISE = new Set('Add Sub Mul Div Erf Tanh Relu Gelu Neg Sigmoid'.split(' '));
/**
 * Constants beyond this size belong to masks, not to activation functions; float16 ends at 65,504.
 */
const FOLLOWING_CONSTANT_MAX = 1_024;
/**
 * Larger constants are not searched for their largest number: biases of a layer have some
 * thousands.
 */
const FOLLOWING_CONSTANT_ELEMENTS_MAX = 65_536;

type Precision = 'half' | 'float';
/** What `half` is stored in. */
type HalfType = typeof ELEMENT.float16 | typeof ELEMENT.bfloat16;

/**
 * Writes the precision into the graph, as strongly typed engines read it: matrix products and what
 * follows them run in float16, embedding tables and matrices are stored in it, and everything whose
 * squares or exponentials could leave its range stays in float32: layer norms, residual sums,
 * pooling, normalisation and the sparse head. Attention is as `attention` says. Inputs and outputs
 * keep their types. Explicit casts stand wherever the precision changes.
 *
 * @param source constants hoisted, heads appended. Its weights are converted when they are written.
 * @param attention the precision within each attention, where TensorRT fuses some and not others.
 */
export function toHalfPrecision(
  source: OnnxModel,
  attention: AttentionPrecision = 'float-softmax',
): OnnxModel {
  const isAllHalf = attention === 'half' || attention === 'bfloat16';
  const model = isAllHalf ? boundMasks(source) : source;
  const type = attention === 'bfloat16' ? ELEMENT.bfloat16 : ELEMENT.float16;
  const pass = new PrecisionPass({ model, forced: forcedPrecisions(model, attention), type });
  for (const node of model.graph.nodes) pass.convert(node);
  return withGraph(model, { nodes: pass.nodes, constants: pass.usedConstants() });
}

class PrecisionPass {
  readonly nodes: GraphNode[] = [];
  readonly #model: OnnxModel;
  readonly #forced: ReadonlyMap<GraphNode, Precision>;
  readonly #type: HalfType;
  readonly #isFloat: (name: string) => boolean;
  /** In which precision the node that makes a tensor gives it. */
  readonly #native = new Map<string, Precision>();
  /** Casts that stand already: name of the tensor to name of its copy in the other precision. */
  readonly #casts = new Map<string, string>();
  readonly #constants: Map<string, Tensor>;
  readonly #outputs: ReadonlySet<string>;

  constructor(options: {
    model: OnnxModel;
    forced: ReadonlyMap<GraphNode, Precision>;
    type: HalfType;
  }) {
    const { model, forced, type } = options;
    this.#model = model;
    this.#forced = forced;
    this.#type = type;
    this.#isFloat = inferFloats(model.graph);
    this.#constants = new Map(model.graph.constants);
    this.#outputs = new Set(model.graph.outputs.map((output) => output.name));
  }

  convert(node: GraphNode): void {
    if (this.#isTableLookup(node)) {
      this.#convertLookup(node);
      return;
    }
    const precision = this.#precisionOf(node);
    this.nodes.push({
      ...node,
      inputs: node.inputs.map((name) => (this.#isFloat(name) ? this.#as(name, precision) : name)),
    });
    for (const output of node.outputs) {
      if (this.#isFloat(output)) this.#native.set(output, precision);
    }
  }

  /** Constants that some node or output still reads. */
  usedConstants(): Map<string, Tensor> {
    const used = new Set(this.nodes.flatMap((node) => node.inputs));
    return new Map([...this.#constants].filter(([name]) => used.has(name)));
  }

  #precisionOf(node: GraphNode): Precision {
    const forced = this.#forced.get(node);
    if (forced !== undefined) return forced;
    // The graph's outputs keep their type, so what makes them does.
    if (node.domain !== '' || node.outputs.some((output) => this.#outputs.has(output))) {
      return 'float';
    }
    if (PRODUCTS.has(node.op)) return isFloatHead(node) ? 'float' : 'half';
    const follows = MOVES.has(node.op) || POINTWISE.has(node.op);
    if (!follows) return 'float';
    const floats = node.inputs.filter((name) => this.#isFloat(name));
    const variable = floats.filter((name) => !this.#model.graph.constants.has(name));
    const allHalf = variable.every((name) => this.#native.get(name) === 'half');
    const constantsFit = floats.every((name) => this.#fits(this.#model.graph.constants.get(name)));
    return variable.length > 0 && allHalf && constantsFit ? 'half' : 'float';
  }

  #fits(tensor: Tensor | undefined): boolean {
    if (!tensor) return true;
    if (elementCountOf(tensor.dims) > FOLLOWING_CONSTANT_ELEMENTS_MAX) return false;
    return loadFloats(tensor).every((value) => Math.abs(value) <= FOLLOWING_CONSTANT_MAX);
  }

  #isTableLookup(node: GraphNode): boolean {
    const table = this.#model.graph.constants.get(node.inputs[0] ?? '');
    return node.op === 'Gather' && table?.elementType === ELEMENT.float && table.dims.length === 2;
  }

  /**
   * A table in float16 takes half of the disk and memory; the sum of its rows is in float32 at
   * once.
   */
  #convertLookup(node: GraphNode): void {
    const [table = '', ...rest] = node.inputs;
    const output = node.outputs[0] ?? '';
    const half = `${output}/half`;
    this.nodes.push({ ...node, inputs: [this.#as(table, 'half'), ...rest], outputs: [half] });
    this.nodes.push(castNode({ input: half, output, to: ELEMENT.float }));
    this.#native.set(output, 'float');
  }

  /**
   * The name under which a float tensor is had in `precision`; adds the cast when it is the first
   * to ask.
   */
  #as(name: string, precision: Precision): string {
    const native = this.#native.get(name) ?? 'float';
    if (native === precision) return name;
    const known = this.#casts.get(name);
    if (known) return known;
    const copy = `${name}/${precision}`;
    this.#casts.set(name, copy);
    const constant = this.#constants.get(name);
    const to = precision === 'half' ? this.#type : ELEMENT.float;
    if (constant) this.#constants.set(copy, halfTensor(constant, { name: copy, type: this.#type }));
    else this.nodes.push(castNode({ input: name, output: copy, to }));
    return copy;
  }
}

/**
 * The sparse head's product has one column, so float32 costs nothing, and its zeros decide which
 * ids are named.
 */
function isFloatHead(node: GraphNode): boolean {
  return node.name.startsWith(`${HEADS_PREFIX}sparse/`);
}

function halfTensor(tensor: Tensor, { name, type }: { name: string; type: HalfType }): Tensor {
  const data = type === ELEMENT.float16 ? halfData : bfloat16Data;
  return { name, dims: tensor.dims, elementType: type, data: data(tensor.data, tensor.name) };
}

function castNode(options: { input: string; output: string; to: number }): GraphNode {
  const { input, output, to } = options;
  return {
    name: `${output}/Cast`,
    op: 'Cast',
    domain: '',
    inputs: [input],
    outputs: [output],
    attributes: new Map([['to', { kind: 'int', value: BigInt(to) }]]),
  };
}

/** Operators that answer something other than numbers of their input's type. */
const OTHER_TYPE = new Set(
  `Shape Size NonZero ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor
  IsNaN IsInf`.split(/\s+/),
);

/**
 * Tells which tensors of a graph hold float32, by following types from inputs and constants through
 * the nodes. Most operators answer in the type of their first input.
 */
function inferFloats(graph: Graph): (name: string) => boolean {
  const floats = new Set<string>();
  for (const value of [...graph.inputs, ...graph.constants.values()]) {
    if (value.elementType === ELEMENT.float) floats.add(value.name);
  }
  for (const node of graph.nodes) {
    if (givesFloat(node, floats)) for (const output of node.outputs) floats.add(output);
  }
  return (name) => floats.has(name);
}

function givesFloat(node: GraphNode, floats: ReadonlySet<string>): boolean {
  if (OTHER_TYPE.has(node.op)) return false;
  if (node.op === 'Cast') return intAttribute(node, 'to', 0) === ELEMENT.float;
  if (node.op === 'ConstantOfShape') {
    const value = node.attributes.get('value');
    return value?.kind !== 'tensor' || value.value.elementType === ELEMENT.float;
  }
  // The first input of a choice is its condition.
  const typed = node.op === 'Where' ? node.inputs[1] : node.inputs[0];
  return floats.has(typed ?? '');
}
