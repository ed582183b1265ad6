import { type Graph, type GraphNode, intAttribute } from '../../onnx/model.ts';
import { ELEMENT } from '../../onnx/tensor.ts';

/** Operators that answer something other than numbers of their input's type. */
const OTHER_TYPE = new Set(
  `Shape Size NonZero ArgMax ArgMin Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor
  IsNaN IsInf`.split(/\s+/),
);

/**
 * Tells which tensors of a graph hold float32, by following types from inputs and constants through
 * the nodes. Most operators answer in the type of their first input.
 */
export function inferFloats(graph: Graph): (name: string) => boolean {
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
