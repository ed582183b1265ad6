import {
  createNode,
  ELEMENT,
  elementCountOf,
  floatTensor,
  type GraphNode,
  intAttribute,
  intsAttribute,
  intTensor,
  loadFloats,
  type OnnxModel,
  opsetOf,
  type Tensor,
} from '../../onnx/model.ts';
import { demand } from '../../provision-error.ts';
import { appendHeads, type HeadLayers, type HeadNames } from './append-heads.ts';
import type { AttentionPrecision } from './attention.ts';
import { hoistConstants, prune, wiringOf, withGraph } from './graph-edit.ts';
import { toHalfPrecision } from './half-precision.ts';

/**
 * The two graphs that an export writes. Both answer the same outputs; weights are still where the
 * source has them.
 */
export interface PreparedGraphs {
  /**
   * Everything in float32: what the engine is held against, and what the embedded backend can
   * serve.
   */
  readonly exact: OnnxModel;
  /** Strongly typed, in float16 where that is safe: what the engine is built from. */
  half(attention: AttentionPrecision): OnnxModel;
}

/**
 * From a published graph to the graphs that are served: one set of operators, layer norms in one
 * piece, the outputs that the server asks for, and the precision written in.
 *
 * @throws ProvisionError when the graph is not that of a text encoder, or a head does not fit it.
 */
export function prepareGraphs(
  source: OnnxModel,
  layers: HeadLayers,
  names: HeadNames,
): PreparedGraphs {
  const plain = prune(fuseLayerNorms(upgradeOpset(hoistConstants(source))));
  const exact = appendHeads(plain, layers, names);
  return { exact, half: (attention) => toHalfPrecision(scaleQueries(exact), attention) };
}

/** The first version with `LayerNormalization`, which engines keep in float32 as one operation. */
const OPSET = 17;
/** The oldest version read. The published BGE-M3 graph is of this age. */
const OPSET_MIN = 11;

/**
 * Operators whose meaning did not change between versions 11 and 17, as far as graphs of text
 * encoders use them; from the change log of the operator set. Any other is refused rather than
 * guessed at.
 */
const UNCHANGED = new Set(
  `Abs Add And Cast Clip Concat Constant ConstantOfShape CumSum Div Dropout Equal Erf Exp Expand
  Flatten Gather GatherElements GatherND Gemm Greater GreaterOrEqual Identity Less LessOrEqual
  Log MatMul Max Min Mod Mul Neg NonZero Not OneHot Or Pow Range Reciprocal ReduceL2 ReduceMax
  ReduceMean ReduceMin ReduceProd Relu Reshape ScatterND Shape Sigmoid Sign Slice Softplus Sqrt
  Sub Tanh Tile Transpose Trilu Where LayerNormalization`.split(/\s+/),
);
/** Their axes were an attribute, and are an input since version 13. */
const AXES_MOVED = new Set(['Squeeze', 'Unsqueeze', 'ReduceSum']);

/**
 * Rewrites a graph for version 17 of the operators. One that is newer already stays as it is.
 *
 * @throws ProvisionError when the graph is older than version 11, or an operator has no known new
 * form.
 */
export function upgradeOpset(model: OnnxModel): OnnxModel {
  const opset = opsetOf(model);
  if (opset >= OPSET) return model;
  demand(
    opset >= OPSET_MIN,
    `The graph uses operators of version ${opset}; ${OPSET_MIN} is needed.`,
  );
  const constants = new Map(model.graph.constants);
  const nodes = model.graph.nodes.map((node) =>
    node.domain === '' && opset < 13 ? upgradeNode(node, constants) : node,
  );
  const opsets = new Map([...model.opsets].filter(([domain]) => domain !== 'ai.onnx'));
  opsets.set('', OPSET);
  return { ...withGraph(model, { nodes, constants }), opsets, irVersion: 8 };
}

function upgradeNode(node: GraphNode, constants: Map<string, Tensor>): GraphNode {
  if (AXES_MOVED.has(node.op)) return moveToInput({ node, attribute: 'axes', constants });
  if (node.op === 'Split') return moveToInput({ node, attribute: 'split', constants });
  if (node.op === 'Softmax' || node.op === 'LogSoftmax') {
    // Until version 13 all axes from the given one on were joined: the same thing only for the last
    // one.
    demand(
      intAttribute(node, 'axis', 1) === -1 || intAttribute(node, 'axis', 1) === 3,
      `${node.name}: a ${node.op} over several axes is not handled.`,
    );
    return node;
  }
  demand(UNCHANGED.has(node.op), `${node.name}: ${node.op} of an old operator set is not handled.`);
  return node;
}

function moveToInput(options: {
  node: GraphNode;
  attribute: string;
  constants: Map<string, Tensor>;
}): GraphNode {
  const { node, attribute, constants } = options;
  const values = intsAttribute(node, attribute);
  if (!values) return node;
  const name = `${node.outputs[0]}/${attribute}`;
  constants.set(name, intTensor(name, values));
  const attributes = new Map(node.attributes);
  attributes.delete(attribute);
  return { ...node, inputs: [node.inputs[0] ?? '', name], attributes };
}

/**
 * Replaces layer norms that an older exporter wrote in pieces by the one operator for them, which
 * engines run in float32 and fuse. The pieces are `(x - mean) / sqrt(mean((x - mean)²) + epsilon) ·
 * scale + bias`; they stay for whoever else reads them, and `prune` drops those that nothing needs.
 *
 * Needs version 17 of the operators, and constants hoisted out of their nodes.
 */
export function fuseLayerNorms(model: OnnxModel): OnnxModel {
  const look = createLook(model);
  const nodes = model.graph.nodes.map((node) => fuse(node, look) ?? node);
  return withGraph(model, { nodes });
}

/** Ways to walk a graph from a node to what feeds it. */
interface Look {
  /** The node that makes a tensor, when it is a standard `op`. */
  from(name: string | undefined, op: string): GraphNode | undefined;
  constant(name: string | undefined): Tensor | undefined;
}

function createLook(model: OnnxModel): Look {
  const { producer } = wiringOf(model.graph.nodes);
  return {
    from(name, op) {
      const node = producer.get(name ?? '');
      return node?.op === op && node.domain === '' ? node : undefined;
    },
    constant: (name) => model.graph.constants.get(name ?? ''),
  };
}

function fuse(add: GraphNode, look: Look): GraphNode | undefined {
  if (add.op !== 'Add') return undefined;
  const bias = splitConstant(add, 'Mul', look);
  const scale = splitConstant(bias?.source, 'Div', look);
  const sub = look.from(scale?.source.inputs[0], 'Sub');
  const sqrt = look.from(scale?.source.inputs[1], 'Sqrt');
  const epsilon = splitConstant(look.from(sqrt?.inputs[0], 'Add'), 'ReduceMean', look);
  const epsilonValue = scalarOf(epsilon?.value);
  const square = look.from(epsilon?.source.inputs[0], 'Pow');
  const mean = look.from(sub?.inputs[1], 'ReduceMean');
  if (!bias || !scale || !sub || !epsilon || !square || !mean) return undefined;
  const isNorm =
    mean.inputs[0] === sub.inputs[0] &&
    // Some exporters compute the difference twice.
    look.from(square.inputs[0], 'Sub')?.inputs.join() === sub.inputs.join() &&
    scalarOf(look.constant(square.inputs[1])) === 2 &&
    isOverLastAxis(mean) &&
    isOverLastAxis(epsilon.source) &&
    isVector(bias.value) &&
    isVector(scale.value);
  if (!isNorm || epsilonValue === undefined) return undefined;
  return createNode({
    op: 'LayerNormalization',
    inputs: [sub.inputs[0] ?? '', scale.value.name, bias.value.name],
    output: add.outputs[0] ?? '',
    attributes: {
      axis: { kind: 'int', value: -1n },
      epsilon: { kind: 'float', value: epsilonValue },
    },
  });
}

/**
 * The two inputs of a commutative node: one made by `op`, one constant; in whichever order they
 * come.
 */
function splitConstant(node: GraphNode | undefined, op: string, look: Look) {
  for (const [a, b] of node ? [node.inputs, node.inputs.toReversed()] : []) {
    const source = look.from(a, op);
    const value = look.constant(b);
    if (source && value) return { source, value };
  }
  return undefined;
}

function isOverLastAxis(node: GraphNode): boolean {
  return intsAttribute(node, 'axes')?.join() === '-1';
}

function scalarOf(tensor: Tensor | undefined): number | undefined {
  if (tensor?.elementType !== ELEMENT.float || elementCountOf(tensor.dims) !== 1) return undefined;
  return loadFloats(tensor)[0];
}

function isVector(tensor: Tensor): boolean {
  return tensor.elementType === ELEMENT.float && tensor.dims.length === 1;
}

/**
 * Scales the queries of attention instead of the scores: `(q · kᵀ) / c` becomes `(q / c) · kᵀ`. In
 * float16 the unscaled scores are what could leave its range first, and TensorRT fuses attention
 * into one kernel, without the scores ever in memory, only when the scale stands before the
 * product.
 *
 * The scale is `√64` for BGE-M3, a power of two, so nothing is rounded anew.
 */
function scaleQueries(model: OnnxModel): OnnxModel {
  const { nodes, constants } = model.graph;
  const { producer, consumers } = wiringOf(nodes);
  const added = new Map<string, Tensor>();
  const replaced = new Map<GraphNode, GraphNode[]>();
  for (const scale of nodes) {
    const product = producer.get(scale.inputs[0] ?? '');
    const factor = factorOf(scale, constants.get(scale.inputs[1] ?? ''));
    const isScores =
      product?.op === 'MatMul' &&
      !product.inputs.some((name) => constants.has(name)) &&
      consumers.get(product.outputs[0] ?? '')?.length === 1;
    if (!isScores || factor === undefined) continue;
    const [query = '', key = ''] = product.inputs;
    const output = scale.outputs[0] ?? '';
    const factorName = `${output}/query_factor`;
    added.set(factorName, floatTensor(factorName, [], [factor]));
    const scaled = `${output}/query`;
    replaced.set(product, []);
    replaced.set(scale, [
      createNode({ op: 'Mul', inputs: [query, factorName], output: scaled }),
      createNode({ op: 'MatMul', inputs: [scaled, key], output }),
    ]);
  }
  return withGraph(model, {
    nodes: nodes.flatMap((node) => replaced.get(node) ?? [node]),
    constants: new Map([...constants, ...added]),
  });
}

/** What a division or product by one constant number multiplies with. */
function factorOf(node: GraphNode, constant: Tensor | undefined): number | undefined {
  if (constant?.elementType !== ELEMENT.float || elementCountOf(constant.dims) !== 1) {
    return undefined;
  }
  const value = loadFloats(constant)[0] ?? 0;
  if (node.op === 'Mul') return value;
  return node.op === 'Div' && value !== 0 ? 1 / value : undefined;
}
