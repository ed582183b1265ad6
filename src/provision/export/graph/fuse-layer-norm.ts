import { createNode, type GraphNode, intsAttribute, type OnnxModel } from '../../onnx/model.ts';
import { ELEMENT, elementCountOf, loadFloats, type Tensor } from '../../onnx/tensor.ts';
import { wiringOf, withGraph } from './graph-edit.ts';

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
