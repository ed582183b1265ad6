import { createNode, floatTensor, type GraphNode, type OnnxModel } from '../../onnx/model.ts';
import { wiringOf, withGraph } from './graph-edit.ts';

/**
 * The precision of attention between its queries, keys and values and its result.
 *
 * - `half`: all of it in float16, no cast in between. TensorRT 10 names as the condition of its
 *   fused kernels: both products in float16, a head size from 16 to 256 that is a multiple of 8,
 *   the scale before the first product, an additive mask in the type of the scores. The kernels sum
 *   in float32 or float16 as they please.
 * - `bfloat16`: the same, with bfloat16 in the place of float16 in the whole graph. Its fused
 *   kernels sum in float32 (autoware-ml#95), and its numbers have three bits less. From compute
 *   capability 8.0 on.
 * - `float`: queries, keys and values are cast up, all of it is in float32. From TensorRT 11.3 on
 *   this is fused, too, with float16 products that sum in float32 (its release notes). Before, it
 *   runs in float32 and several kernels.
 * - `float-softmax`: float16 products and a float32 softmax, with casts in between. The most exact
 *   of those that older versions run fast, and no document says that it is fused.
 */
export type AttentionPrecision = 'half' | 'bfloat16' | 'float' | 'float-softmax';

/** The nodes of one attention. */
interface Attention {
  /** Queries by keys. */
  readonly scores: GraphNode;
  readonly mask: GraphNode | undefined;
  readonly softmax: GraphNode;
  /** Probabilities by values. */
  readonly context: GraphNode;
}

/** Every attention of a graph: a softmax between two products of variable tensors. */
export function findAttention(model: OnnxModel): readonly Attention[] {
  const { nodes, constants } = model.graph;
  const { producer, consumers } = wiringOf(nodes);
  const isProduct = (node: GraphNode | undefined): node is GraphNode =>
    node?.op === 'MatMul' && !node.inputs.some((name) => constants.has(name));
  return nodes.flatMap((softmax) => {
    if (softmax.op !== 'Softmax') return [];
    const before = producer.get(softmax.inputs[0] ?? '');
    const mask = before?.op === 'Add' ? before : undefined;
    const scores = (mask?.inputs ?? softmax.inputs)
      .map((name) => producer.get(name))
      .find(isProduct);
    const [context, ...others] = consumers.get(softmax.outputs[0] ?? '') ?? [];
    if (!isProduct(scores) || !isProduct(context) || others.length > 0) return [];
    return [{ scores, mask, softmax, context }];
  });
}

/** Nodes whose precision does not follow from what they do, but from the attention's. */
export function forcedPrecisions(
  model: OnnxModel,
  precision: AttentionPrecision,
): ReadonlyMap<GraphNode, 'half' | 'float'> {
  if (precision === 'float-softmax') return new Map();
  const inside = precision === 'float' ? 'float' : 'half';
  return new Map(
    findAttention(model).flatMap(({ scores, mask, softmax, context }) =>
      [scores, ...(mask ? [mask] : []), softmax, context].map((node) => [node, inside] as const),
    ),
  );
}

/**
 * Far below any score, and within float16. The published mask is -3.4e38, which float16 makes
 * infinite: `exp` is zero in either case.
 */
const MASK_MIN = -30_000;

/** Bounds the masks of attention, for float16 and bfloat16. */
export function boundMasks(model: OnnxModel): OnnxModel {
  const { producer } = wiringOf(model.graph.nodes);
  const masks = new Map<GraphNode, string>();
  for (const { mask, scores } of findAttention(model)) {
    const name = mask?.inputs.find((input) => producer.get(input) !== scores);
    if (mask && name) masks.set(mask, name);
  }
  if (masks.size === 0) return model;
  const least = floatTensor('attention/mask_min', [], [MASK_MIN]);
  const bounded = (name: string): string => `${name}/bounded`;
  const done = new Set<string>();
  const nodes = model.graph.nodes.flatMap((node) => {
    const mask = masks.get(node);
    if (mask === undefined) return [node];
    const inputs = node.inputs.map((input) => (input === mask ? bounded(mask) : input));
    if (done.has(mask)) return [{ ...node, inputs }];
    done.add(mask);
    const max = createNode({ op: 'Max', inputs: [mask, least.name], output: bounded(mask) });
    return [max, { ...node, inputs }];
  });
  const constants = new Map([...model.graph.constants, [least.name, least]]);
  return withGraph(model, { nodes, constants });
}
