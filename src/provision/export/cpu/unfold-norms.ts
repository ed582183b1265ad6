import {
  createNode,
  ELEMENT,
  elementCountOf,
  floatTensor,
  type GraphNode,
  intTensor,
  lazyFloats,
  loadFloats,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';
import { prune, wiringOf, withGraph } from '../graph/graph-edit.ts';
import { type Linear, linearsOf } from './quantize-for-cpu.ts';

/** The input whose length is the number of tokens. */
const TOKEN_IDS = 'input_ids';

/**
 * Writes layer norms as ONNX Runtime computes them fastest on a CPU: an instance norm, which is
 * vectorized where the layer norm sums value by value, then a product with the norm's weights. Its
 * bias goes into the bias of the products around it, so it costs nothing and is not quantized.
 *
 * What lies between two layers is then the norm's output less its bias.
 *
 * @param fused of `fuseForCpu`, for one text at a time. Norms that are written in another way than
 * is known stay.
 */
export function unfoldNorms(fused: OnnxModel): OnnxModel {
  const pass = new UnfoldPass(fused);
  for (const node of fused.graph.nodes) pass.convert(node);
  return prune(pass.result());
}

class UnfoldPass {
  readonly #model: OnnxModel;
  readonly #constants: Map<string, Tensor>;
  readonly #linears: readonly Linear[];
  readonly #consumers: ReadonlyMap<string, readonly GraphNode[]>;
  readonly #nodes: GraphNode[] = [];
  /** Readers of a norm that read what it gives less its bias, by the norm's output. */
  readonly #readers = new Map<string, ReadonlySet<GraphNode>>();
  /** What is added to a product's bias, by the node that adds it. */
  readonly #shifts = new Map<GraphNode, (() => Float32Array)[]>();

  constructor(model: OnnxModel) {
    this.#model = model;
    this.#constants = new Map(model.graph.constants);
    this.#linears = [...linearsOf(model).values()];
    this.#consumers = wiringOf(model.graph.nodes).consumers;
  }

  convert(node: GraphNode): void {
    const parts = node.op === 'LayerNormalization' ? this.#weightsOf(node) : undefined;
    if (parts === undefined) this.#nodes.push(node);
    else this.#unfold(node, parts);
  }

  result(): OnnxModel {
    const isAny = this.#readers.size > 0;
    const nodes = [
      ...(isAny ? this.#ones() : []),
      ...this.#nodes.map((node) => this.#joined(node)),
    ];
    return withGraph(this.#model, { nodes, constants: this.#constants });
  }

  #weightsOf(norm: GraphNode): { weight: Tensor; bias: Tensor } | undefined {
    const [weight, bias] = norm.inputs.slice(1).map((name) => this.#constants.get(name));
    const isKnown = [weight, bias].every(
      (one) => one?.elementType === ELEMENT.float && one.dims.length === 1,
    );
    const hasIds = this.#model.graph.inputs.some(({ name }) => name === TOKEN_IDS);
    return weight && bias && isKnown && hasIds ? { weight, bias } : undefined;
  }

  #unfold(norm: GraphNode, { weight, bias }: { weight: Tensor; bias: Tensor }): void {
    const [input = ''] = norm.inputs;
    const [output = ''] = norm.outputs;
    const [normal, states] = [`${output}/normal`, statesOf(output)];
    const epsilon = norm.attributes.get('epsilon') ?? { kind: 'float', value: 1e-5 };
    this.#nodes.push(
      createNode({
        op: 'InstanceNormalization',
        inputs: [input, ONES, ZEROS],
        output: normal,
        attributes: { epsilon },
      }),
      createNode({ op: 'Mul', inputs: [normal, weight.name], output: states }),
    );
    const readers = new Set<GraphNode>();
    for (const linear of this.#linears) {
      if (linear.input !== output) continue;
      readers.add(linear.product);
      this.#shift(linear.sum, () => productOf(bias, linear.weight));
    }
    const consumers = this.#consumers.get(output) ?? [];
    for (const { sum } of this.#linears) {
      // A sum of the norm's output and of what a product gives.
      const residual = consumers.find(
        ({ op, inputs }) => op === 'Add' && inputs.includes(sum.outputs[0] ?? ''),
      );
      if (residual === undefined) continue;
      readers.add(residual);
      this.#shift(sum, () => loadFloats(bias));
    }
    this.#readers.set(output, readers);
    const isGiven = this.#model.graph.outputs.some(({ name }) => name === output);
    if (!isGiven && consumers.every((consumer) => readers.has(consumer))) return;
    this.#nodes.push(createNode({ op: 'Add', inputs: [states, bias.name], output }));
  }

  #shift(sum: GraphNode, values: () => Float32Array): void {
    this.#shifts.set(sum, [...(this.#shifts.get(sum) ?? []), values]);
  }

  /** The node as it stands beside the norms that were unfolded. */
  #joined(node: GraphNode): GraphNode {
    const shifts = this.#shifts.get(node) ?? [];
    const inputs = node.inputs.map((name) => {
      if (this.#readers.get(name)?.has(node)) return statesOf(name);
      const bias = shifts.length > 0 ? this.#constants.get(name) : undefined;
      return bias === undefined ? name : this.#shifted(bias, node, shifts);
    });
    return inputs.every((name, at) => name === node.inputs[at]) ? node : { ...node, inputs };
  }

  #shifted(bias: Tensor, sum: GraphNode, shifts: readonly (() => Float32Array)[]): string {
    const name = `${sum.outputs[0]}/bias`;
    const make = () => {
      const values = loadFloats(bias);
      for (const shift of shifts) {
        for (const [at, value] of shift().entries()) values[at] += value;
      }
      return values;
    };
    this.#constants.set(name, lazyFloats({ name, dims: bias.dims, make }));
    return name;
  }

  /** Weights and biases of the instance norms, which have one for each token: none. */
  #ones(): GraphNode[] {
    const [from, to] = [intTensor(`${ONES}/from`, [1]), intTensor(`${ONES}/to`, [2])];
    for (const one of [from, to]) this.#constants.set(one.name, one);
    const [shape, count] = [`${ONES}/shape`, `${ONES}/count`];
    const fill = (output: string, value: number) => {
      const tensor = { kind: 'tensor', value: floatTensor('value', [1], [value]) } as const;
      const attributes = { value: tensor };
      return createNode({ op: 'ConstantOfShape', inputs: [count], output, attributes });
    };
    return [
      createNode({ op: 'Shape', inputs: [TOKEN_IDS], output: shape }),
      createNode({ op: 'Slice', inputs: [shape, from.name, to.name], output: count }),
      fill(ONES, 1),
      fill(ZEROS, 0),
    ];
  }
}

const ONES = 'norms/ones';
const ZEROS = 'norms/zeros';

function statesOf(output: string): string {
  return `${output}/states`;
}

/** A row times a matrix. */
function productOf(row: Tensor, matrix: Tensor): Float32Array {
  const factors = loadFloats(row);
  const values = loadFloats(matrix);
  const columnCount = elementCountOf(matrix.dims) / factors.length;
  const sums = new Float64Array(columnCount);
  for (const [index, factor] of factors.entries()) {
    const start = index * columnCount;
    for (let column = 0; column < columnCount; column += 1) {
      sums[column] += factor * values[start + column];
    }
  }
  return Float32Array.from(sums);
}
