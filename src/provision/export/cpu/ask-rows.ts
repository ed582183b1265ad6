import { ROWS_DIMENSION, ROWS_INPUT } from '../../../model/int8-record.ts';
import {
  createNode,
  type GraphNode,
  type GraphValue,
  intTensor,
  type OnnxModel,
} from '../../onnx/model.ts';
import { withGraph } from '../graph/graph-edit.ts';
import { askedOf, linearsOf } from './quantize-for-cpu.ts';

/**
 * Lets the last layer be computed for the first tokens of a text alone: as many as the attention
 * mask has ones. Keys and values come of all tokens, and the dense head reads the first one. So a
 * text of which nothing else is asked is spared most of a layer, and the other heads.
 *
 * @param unfolded of `unfoldNorms`, for one text at a time.
 * @returns the model itself, when its last layer or its heads read anything else of the tokens.
 */
export function askRows(unfolded: OnnxModel): OnnxModel {
  const { inputs, outputs } = unfolded.graph;
  const nodes = withOwnOnes(unfolded.graph.nodes);
  const last = nodes.findLast(({ op }) => op === 'MultiHeadAttention');
  const [query = '', key = ''] = last?.inputs ?? [];
  const linears = [...linearsOf(unfolded).values()];
  const states = linears.find(({ sum }) => sum.outputs[0] === key)?.input;
  const mask = inputs.find(({ name }) => name === ROWS_INPUT);
  if (last === undefined || states === undefined || mask === undefined) return unfolded;
  const after = dependentsOf(nodes, last.outputs);
  const isAfter = (node: GraphNode) => node.outputs.some((name) => after.has(name));
  const perToken = dependentsOf(nodes, [TOKEN_IDS]);
  const read = nodes.filter((node) => node !== last && isAfter(node)).flatMap((one) => one.inputs);
  const isKnown = read.every((name) => after.has(name) || !perToken.has(name) || name === states);
  if (!isKnown) return unfolded;
  const converted = nodes.flatMap((node) => {
    if (node === last) {
      const attention = { ...last, inputs: [askedOf(query), ...last.inputs.slice(1)] };
      return [...countNodes(), sliceNode(query), sliceNode(states), attention];
    }
    if (!isAfter(node)) return [node];
    const named = node.inputs.map((name) => (name === states ? askedOf(name) : name));
    return [{ ...node, inputs: named }];
  });
  const constants = new Map(unfolded.graph.constants);
  for (const at of [0, 1, 2]) constants.set(INDEX(at), intTensor(INDEX(at), [at]));
  const token = mask.dims?.[1];
  const renamed = (value: GraphValue) => ({
    ...value,
    dims: value.dims?.map((dim) => (dim === token ? ROWS_DIMENSION : dim)) ?? null,
  });
  return withGraph(unfolded, {
    nodes: converted,
    constants,
    inputs: inputs.map((value) => (value === mask ? renamed(value) : value)),
    outputs: outputs.map(renamed),
  });
}

/** The input whose length is the number of tokens. */
const TOKEN_IDS = 'input_ids';
const ONES = 'asked/ones';

/** Some graphs count positions by the mask: before the last attention it is one for each token. */
function withOwnOnes(nodes: readonly GraphNode[]): readonly GraphNode[] {
  const last = nodes.findLast(({ op }) => op === 'MultiHeadAttention');
  const needed = new Set(last?.inputs);
  let isRead = false;
  const converted = nodes.toReversed().map((node) => {
    if (!node.outputs.some((output) => needed.has(output))) return node;
    for (const input of node.inputs) needed.add(input);
    if (!node.inputs.includes(ROWS_INPUT)) return node;
    isRead = true;
    return { ...node, inputs: node.inputs.map((name) => (name === ROWS_INPUT ? ONES : name)) };
  });
  if (!isRead) return nodes;
  const value = { kind: 'tensor', value: intTensor('value', [1]) } as const;
  const shape = `${ONES}/shape`;
  return [
    createNode({ op: 'Shape', inputs: [TOKEN_IDS], output: shape }),
    createNode({
      op: 'ConstantOfShape',
      inputs: [shape],
      output: ONES,
      attributes: { value },
    }),
    ...converted.reverse(),
  ];
}

const COUNT = 'asked/count';
const INDEX = (at: number) => `asked/index/${at}`;

/** How many ones the mask has, as a shape. */
function countNodes(): GraphNode[] {
  const shape = 'asked/shape';
  return [
    createNode({ op: 'Shape', inputs: [ROWS_INPUT], output: shape }),
    createNode({ op: 'Slice', inputs: [shape, INDEX(1), INDEX(2)], output: COUNT }),
  ];
}

function sliceNode(name: string): GraphNode {
  const inputs = [name, INDEX(0), COUNT, INDEX(1)];
  return createNode({ op: 'Slice', inputs, output: askedOf(name) });
}

/** Tensors that are computed of some others, and those themselves. */
function dependentsOf(nodes: readonly GraphNode[], names: readonly string[]): Set<string> {
  const found = new Set(names);
  for (const { inputs, outputs } of nodes) {
    if (inputs.some((name) => found.has(name))) for (const output of outputs) found.add(output);
  }
  return found;
}
