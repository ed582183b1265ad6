import {
  createNode,
  ELEMENT,
  elementCountOf,
  type GraphNode,
  lazyFloats,
  loadFloats,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';
import { prune, wiringOf, withGraph } from '../graph/graph-edit.ts';
import { type Linear, linearsOf } from './quantize-for-cpu.ts';

/**
 * Writes layer norms as ONNX Runtime computes them fastest on a CPU: without their bias, and apart
 * from the sum before them. The bias goes into the bias of the products around it, so it costs
 * nothing and is not quantized.
 *
 * The runtime would merge a sum and the norm that reads it into one operator, which takes ten times
 * as long as both. It does not merge a difference: `x + W·y` is written as `x - (-W)·y`.
 *
 * What lies between two layers is then the norm's output less its bias.
 *
 * @param fused of `fuseForCpu`. Norms that are written in another way than is known stay.
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
  /** Sums before norms that become differences, with what is subtracted. */
  readonly #subtracted = new Map<GraphNode, string>();
  /** Nodes whose constants change their sign. */
  readonly #negated = new Set<GraphNode>();

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
    const nodes = this.#nodes.map((node) => this.#joined(node));
    return withGraph(this.#model, { nodes, constants: this.#constants });
  }

  #weightsOf(norm: GraphNode): { weight: Tensor; bias: Tensor } | undefined {
    const [weight, bias] = norm.inputs.slice(1).map((name) => this.#constants.get(name));
    const isKnown = [weight, bias].every(
      (one) => one?.elementType === ELEMENT.float && one.dims.length === 1,
    );
    return weight && bias && isKnown ? { weight, bias } : undefined;
  }

  #unfold(norm: GraphNode, { weight, bias }: { weight: Tensor; bias: Tensor }): void {
    const [input = ''] = norm.inputs;
    const [output = ''] = norm.outputs;
    const states = statesOf(output);
    this.#nodes.push({ ...norm, inputs: [input, weight.name], outputs: [states] });
    this.#subtract(input);
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

  /** Makes the sum that a norm reads a difference, where one of the two comes of a product. */
  #subtract(name: string): void {
    for (const { product, sum } of this.#linears) {
      const output = sum.outputs[0] ?? '';
      const [residual, ...others] = this.#consumers.get(output) ?? [];
      if (residual?.op !== 'Add' || residual.outputs[0] !== name || others.length > 0) continue;
      this.#subtracted.set(residual, output);
      this.#negated.add(product).add(sum);
      return;
    }
  }

  #shift(sum: GraphNode, values: () => Float32Array): void {
    this.#shifts.set(sum, [...(this.#shifts.get(sum) ?? []), values]);
  }

  /** The node as it stands beside the norms that were unfolded. */
  #joined(node: GraphNode): GraphNode {
    const shifts = this.#shifts.get(node) ?? [];
    const inputs = node.inputs.map((name) => {
      if (this.#readers.get(name)?.has(node)) return statesOf(name);
      const constant = this.#constants.get(name);
      if (constant === undefined) return name;
      if (this.#negated.has(node)) return this.#changed(constant, node, { shifts, sign: -1 });
      return shifts.length > 0 ? this.#changed(constant, node, { shifts, sign: 1 }) : name;
    });
    const subtracted = this.#subtracted.get(node);
    if (subtracted !== undefined) {
      const other = node.inputs.findIndex((name) => name !== subtracted);
      return { ...node, op: 'Sub', inputs: [inputs[other] ?? '', subtracted] };
    }
    return inputs.every((name, at) => name === node.inputs[at]) ? node : { ...node, inputs };
  }

  #changed(
    constant: Tensor,
    node: GraphNode,
    { shifts, sign }: { shifts: readonly (() => Float32Array)[]; sign: 1 | -1 },
  ): string {
    const name = `${node.outputs[0]}/constant`;
    const make = () => {
      const values = loadFloats(constant);
      for (const shift of shifts) {
        for (const [at, value] of shift().entries()) values[at] += value;
      }
      return sign === 1 ? values : values.map((value) => -value);
    };
    this.#constants.set(name, lazyFloats({ name, dims: constant.dims, make }));
    return name;
  }
}

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
