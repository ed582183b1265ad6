import { createNode, type GraphNode, type OnnxModel } from '../../onnx/model.ts';
import {
  ELEMENT,
  elementCountOf,
  floatTensor,
  loadFloats,
  type Tensor,
} from '../../onnx/tensor.ts';
import { wiringOf, withGraph } from './graph-edit.ts';

/**
 * Scales the queries of attention instead of the scores: `(q · kᵀ) / c` becomes `(q / c) · kᵀ`. In
 * float16 the unscaled scores are what could leave its range first, and TensorRT fuses attention
 * into one kernel, without the scores ever in memory, only when the scale stands before the
 * product.
 *
 * The scale is `√64` for BGE-M3, a power of two, so nothing is rounded anew.
 */
export function scaleQueries(model: OnnxModel): OnnxModel {
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
