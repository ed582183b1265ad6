import {
  createNode,
  ELEMENT,
  elementCountOf,
  type GraphNode,
  intsAttribute,
  loadData,
  loadFloats,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';
import { prune, wiringOf, withGraph } from '../graph/graph-edit.ts';

/** The domain of ONNX Runtime's own operators. */
export const ORT_DOMAIN = 'com.microsoft';

/**
 * Writes attention and the activation function as one operator each, as ONNX Runtime computes them
 * best on a CPU. Its attention operator stores no scores: memory no longer grows with the square of
 * a text.
 *
 * The result has no mask in its attention. It is for one text at a time, without padding.
 *
 * @param exact layer norms fused, constants hoisted, heads appended.
 * @returns undefined when some attention of the graph is written in another way than is known.
 */
export function fuseForCpu(exact: OnnxModel): OnnxModel | undefined {
  const look = new Look(exact);
  const replaced = new Map<GraphNode, GraphNode>();
  for (const node of exact.graph.nodes) {
    const gelu = node.op === 'Mul' ? fuseGelu(node, look) : undefined;
    if (gelu !== undefined) replaced.set(node, gelu);
    if (node.op !== 'Softmax') continue;
    const attention = fuseAttention(node, look);
    if (attention === undefined) return undefined;
    replaced.set(...attention);
  }
  const nodes = exact.graph.nodes.map((node) => replaced.get(node) ?? node);
  const opsets = new Map([...exact.opsets, [ORT_DOMAIN, 1]]);
  return prune({ ...withGraph(exact, { nodes }), opsets });
}

/** Ways to walk a graph. */
class Look {
  readonly #constants: ReadonlyMap<string, Tensor>;
  readonly #wiring: ReturnType<typeof wiringOf>;

  constructor(model: OnnxModel) {
    this.#constants = model.graph.constants;
    this.#wiring = wiringOf(model.graph.nodes);
  }

  /** The node that makes a tensor, when it is a standard `op`. */
  from(name: string | undefined, ...ops: string[]): GraphNode | undefined {
    const node = this.#wiring.producer.get(name ?? '');
    return node !== undefined && node.domain === '' && ops.includes(node.op) ? node : undefined;
  }

  /** The node that reads a tensor as its first input, when it is an `op`. */
  reader(node: GraphNode | undefined, op: string): GraphNode | undefined {
    const output = node?.outputs[0] ?? '';
    const readers = this.#wiring.consumers.get(output) ?? [];
    // Beside it, old exporters ask for a tensor's shape.
    return readers.find((reader) => reader.op === op && reader.inputs[0] === output);
  }

  /** A constant of one number. */
  scalar(name: string | undefined): number | undefined {
    const tensor = this.#constants.get(name ?? '');
    const isScalar = tensor?.elementType === ELEMENT.float && elementCountOf(tensor.dims) === 1;
    return isScalar ? loadFloats(tensor)[0] : undefined;
  }

  /** An input that some `op` makes and the constant number beside it, in whichever order. */
  beside(node: GraphNode | undefined, ops: string[]) {
    for (const [a, b] of node ? [node.inputs, node.inputs.toReversed()] : []) {
      const source = this.from(a, ...ops);
      const value = this.scalar(b);
      if (source !== undefined && value !== undefined) return { source, value };
    }
    return undefined;
  }

  /** How many heads a reshape splits the states into, and how many values each has. */
  split(reshape: GraphNode | undefined): { heads: number; size: number } | undefined {
    const shape = reshape?.inputs[1];
    const constant = this.#ints(shape);
    const parts = constant ?? this.from(shape, 'Concat')?.inputs.flatMap((one) => this.#last(one));
    const [heads, size] = parts?.slice(-2) ?? [];
    return parts?.length === 4 && heads && size ? { heads, size } : undefined;
  }

  #ints(name: string | undefined): number[] | undefined {
    const tensor = this.#constants.get(name ?? '');
    if (tensor?.elementType !== ELEMENT.int64) return undefined;
    return Array.from(new BigInt64Array(loadData(tensor.data).buffer), Number);
  }

  #last(name: string): number {
    return this.#ints(name)?.at(-1) ?? 0;
  }
}

/** `x · ½ · (1 + erf(x / √2))`, in the order in which exporters of this model family write it. */
function fuseGelu(node: GraphNode, look: Look): GraphNode | undefined {
  const half = look.beside(node, ['Mul']);
  if (half?.value !== 0.5) return undefined;
  const [a, b] = half.source.inputs;
  const shifted = look.from(b, 'Add') ?? look.from(a, 'Add');
  const erf = look.beside(shifted, ['Erf']);
  const ratio = look.from(erf?.source.inputs[0], 'Div');
  const input = ratio?.inputs[0];
  const isGelu =
    erf?.value === 1 &&
    Math.abs((look.scalar(ratio?.inputs[1]) ?? 0) - Math.SQRT2) < 1e-6 &&
    (a === input || b === input);
  if (!isGelu || input === undefined) return undefined;
  const gelu = createNode({ op: 'Gelu', inputs: [input], output: node.outputs[0] ?? '' });
  return { ...gelu, domain: ORT_DOMAIN };
}

const SPLIT_HEADS = '0,2,1,3';
const SPLIT_AND_TURN = '0,2,3,1';

/** From a softmax to the node whose output the whole attention gives, and what replaces it. */
function fuseAttention(softmax: GraphNode, look: Look): [GraphNode, GraphNode] | undefined {
  const masked = look.from(softmax.inputs[0], 'Add');
  const operations = masked?.inputs.map((name) => look.from(name, 'Div', 'Mul'));
  const operation = operations?.find((one) => look.beside(one, ['MatMul']) !== undefined);
  const scaled = look.beside(operation, ['MatMul']);
  const query = headsOf(scaled?.source.inputs[0], SPLIT_HEADS, look);
  const key = headsOf(scaled?.source.inputs[1], SPLIT_AND_TURN, look);
  const mixed = look.reader(softmax, 'MatMul');
  const value = headsOf(mixed?.inputs[1], SPLIT_HEADS, look);
  const back = look.reader(mixed, 'Transpose');
  const joined = look.reader(back, 'Reshape');
  if (!scaled || !query || !key || !value || !joined || permOf(back) !== SPLIT_HEADS) {
    return undefined;
  }
  const { heads, size } = query;
  const isOne = [key, value].every((part) => part.heads === heads && part.size === size);
  if (!isOne) return undefined;
  const factor = operation?.op === 'Div' ? 1 / scaled.value : scaled.value;
  const attention = createNode({
    op: 'MultiHeadAttention',
    inputs: [query.states, key.states, value.states],
    output: joined.outputs[0] ?? '',
    attributes: {
      num_heads: { kind: 'int', value: BigInt(heads) },
      scale: { kind: 'float', value: factor },
    },
  });
  return [joined, { ...attention, domain: ORT_DOMAIN }];
}

/** The states that were split into heads, `[batch, sequence, hidden]`. */
function headsOf(name: string | undefined, perm: string, look: Look) {
  const transpose = look.from(name, 'Transpose');
  const reshape =
    permOf(transpose) === perm ? look.from(transpose?.inputs[0], 'Reshape') : undefined;
  const split = look.split(reshape);
  const states = reshape?.inputs[0];
  return split === undefined || states === undefined ? undefined : { ...split, states };
}

function permOf(node: GraphNode | undefined): string | undefined {
  return node === undefined ? undefined : intsAttribute(node, 'perm')?.join();
}
