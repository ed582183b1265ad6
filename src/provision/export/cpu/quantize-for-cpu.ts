import {
  createNode,
  ELEMENT,
  elementCountOf,
  floatTensor,
  type GraphNode,
  halfData,
  intTensor,
  memoryData,
  type OnnxModel,
  opsetOf,
  type Tensor,
} from '../../onnx/model.ts';
import { HEADS_PREFIX, REDUCE_AXES_INPUT_OPSET } from '../graph/append-heads.ts';
import { prune, wiringOf, withGraph } from '../graph/graph-edit.ts';
import { ORT_DOMAIN } from './fuse-for-cpu.ts';
import { dividedBias, quantizeMatrix } from './quantize-matrix.ts';

/**
 * By what the inputs of matrix products are divided, channel by channel, before they are quantized
 * (SmoothQuant); by the name of the tensor. What is not named is not divided.
 */
export type Divisors = ReadonlyMap<string, Float32Array>;

/** Smaller tables stay in float32: they cost nothing. */
const TABLE_ELEMENTS_MIN = 65_536;

/** Keeps a row of zeros from a scale of zero. */
const TINY = 1e-12;

/** A matrix product with its bias: what becomes one operator over int8. */
export interface Linear {
  readonly product: GraphNode;
  readonly sum: GraphNode;
  readonly input: string;
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/**
 * Writes the encoder's matrices as int8 with one scale a column, their inputs quantized as they
 * come, and the tables of embeddings as float16. The heads stay in float32: they are a
 * three-hundredth of the work.
 *
 * All tokens of a text share the scale of an input, so a text must be computed alone, as it must be
 * anyhow without a mask. In a last layer that is computed for some tokens alone each token has its
 * own: what it answers hangs on no other.
 *
 * @param fused of `fuseForCpu`. Its weights are converted when they are written.
 */
export function quantizeForCpu(fused: OnnxModel, divisors: Divisors): OnnxModel {
  const pass = new QuantizePass(fused, divisors);
  for (const node of fused.graph.nodes) pass.convert(node);
  const { nodes, constants } = pass;
  return prune(withGraph(fused, { nodes, constants }));
}

/** The name of a tensor cut to the tokens that are asked for (`askRows`). */
export function askedOf(name: string): string {
  return `${name}${ASKED}`;
}

const ASKED = '/asked';

function isAskedAttention({ op, inputs }: GraphNode): boolean {
  return op === 'MultiHeadAttention' && inputs[0]?.endsWith(ASKED) === true;
}

/** The encoder's products with a constant matrix and bias, by the product's node. */
export function linearsOf(model: OnnxModel): ReadonlyMap<GraphNode, Linear> {
  const { nodes, constants } = model.graph;
  const { consumers } = wiringOf(nodes);
  const linears = new Map<GraphNode, Linear>();
  for (const product of nodes) {
    const [input = '', matrix = ''] = product.inputs;
    const weight = constants.get(matrix);
    if (product.op !== 'MatMul' || product.name.startsWith(HEADS_PREFIX)) continue;
    if (weight?.elementType !== ELEMENT.float || weight.dims.length !== 2) continue;
    const [sum, ...others] = consumers.get(product.outputs[0] ?? '') ?? [];
    const bias = sum?.inputs.map((name) => constants.get(name)).find((one) => one !== undefined);
    if (sum?.op !== 'Add' || others.length > 0 || bias?.dims.length !== 1) continue;
    linears.set(product, { product, sum, input, weight, bias });
  }
  return linears;
}

class QuantizePass {
  readonly nodes: GraphNode[] = [];
  readonly constants: Map<string, Tensor>;
  readonly #divisors: Divisors;
  readonly #linears: ReadonlyMap<GraphNode, Linear>;
  readonly #sums: ReadonlySet<GraphNode>;
  readonly #readerCount = new Map<string, number>();
  /** Output of a product of values, by the attention's output that is a mean of them. */
  readonly #attended = new Map<string, string>();
  readonly #done = new Set<string>();
  /** Products whose inputs have a scale for each token. */
  readonly #byRow: ReadonlySet<GraphNode>;
  readonly #opset: number;

  constructor(model: OnnxModel, divisors: Divisors) {
    this.constants = new Map(model.graph.constants);
    this.#divisors = divisors;
    this.#linears = linearsOf(model);
    this.#sums = new Set([...this.#linears.values()].map(({ sum }) => sum));
    for (const { input } of this.#linears.values()) {
      this.#readerCount.set(input, (this.#readerCount.get(input) ?? 0) + 1);
    }
    this.#opset = opsetOf(model);
    const { nodes } = model.graph;
    const asked = nodes.findIndex(isAskedAttention);
    this.#byRow = new Set(asked < 0 ? [] : nodes.slice(asked));
    for (const { op, inputs, outputs } of nodes) {
      if (op === 'MultiHeadAttention') this.#attended.set(inputs[2] ?? '', outputs[0] ?? '');
    }
  }

  convert(node: GraphNode): void {
    const linear = this.#linears.get(node);
    if (linear !== undefined) this.#linear(linear);
    else if (this.#isTableLookup(node)) this.#lookup(node);
    else if (!this.#sums.has(node)) this.nodes.push(node);
  }

  #linear({ product, sum, input, weight, bias }: Linear): void {
    const output = sum.outputs[0] ?? '';
    const columnDivisors = this.#divisors.get(this.#attended.get(output) ?? '');
    const rowFactors = this.#divisors.get(input);
    const { matrix, scales } = quantizeMatrix(output, { weight, rowFactors, columnDivisors });
    const shift = columnDivisors === undefined ? bias : dividedBias(bias, columnDivisors);
    for (const tensor of [matrix, scales, shift]) this.constants.set(tensor.name, tensor);
    const smooth = this.#smooth(input);
    if (this.#byRow.has(product)) {
      this.#quantizeRows(smooth, { matrix, scales, shift, output });
      return;
    }
    if ((this.#readerCount.get(input) ?? 0) < 2) {
      const inputs = [smooth, matrix.name, scales.name, '', shift.name];
      this.#ownNode('DynamicQuantizeMatMul', inputs, output);
      return;
    }
    const [bytes, scale, zero] = this.#quantizeOnce(smooth);
    const inputs = [bytes, matrix.name, scale, scales.name, zero, '', shift.name];
    this.#ownNode('MatMulIntegerToFloat', inputs, output);
  }

  /** A product whose input has a scale for each row: the largest magnitude becomes 127. */
  #quantizeRows(
    input: string,
    {
      matrix,
      scales,
      shift,
      output,
    }: Record<'matrix' | 'scales' | 'shift', Tensor> & {
      readonly output: string;
    },
  ): void {
    const part = (name: string) => `${output}/${name}`;
    const add = (op: string, inputs: string[], name: string) => {
      this.nodes.push(createNode({ op, inputs, output: part(name) }));
      return part(name);
    };
    const magnitudes = add('Abs', [input], 'magnitudes');
    const largest = this.#largest(magnitudes, part('largest'));
    const scale = add(
      'Mul',
      [add('Max', [largest, this.#scalar(TINY)], 'some'), this.#scalar(1 / 127)],
      'row',
    );
    const even = add('Div', [input, scale], 'even');
    const one = this.#scalar(1);
    const bytes = add('QuantizeLinear', [even, one, this.#middle()], 'u8');
    const inputs = [bytes, matrix.name, one, scales.name, this.#middle()];
    this.#ownNode('MatMulIntegerToFloat', inputs, part('product'));
    const scaled = add('Mul', [part('product'), scale], 'scaled');
    this.nodes.push(createNode({ op: 'Add', inputs: [scaled, shift.name], output }));
  }

  #largest(input: string, output: string): string {
    const node = { op: 'ReduceMax', output };
    if (this.#opset < REDUCE_AXES_INPUT_OPSET) {
      const axes = { kind: 'ints', value: [-1n] } as const;
      this.nodes.push(createNode({ ...node, inputs: [input], attributes: { axes } }));
    } else {
      const axes = intTensor('rows/axes', [-1]);
      this.constants.set(axes.name, axes);
      this.nodes.push(createNode({ ...node, inputs: [input, axes.name] }));
    }
    return output;
  }

  #scalar(value: number): string {
    const tensor = floatTensor(`rows/${value}`, [], [value]);
    this.constants.set(tensor.name, tensor);
    return tensor.name;
  }

  /** The byte that stands for zero. */
  #middle(): string {
    const name = 'rows/zero';
    const data = memoryData(Uint8Array.of(128));
    this.constants.set(name, { name, dims: [], elementType: ELEMENT.uint8, data });
    return name;
  }

  /** The input divided. An attention's output comes divided already, by the matrix of its values. */
  #smooth(input: string): string {
    const divisors = this.#divisors.get(input);
    if (divisors === undefined || [...this.#attended.values()].includes(input)) return input;
    const output = `${input}/smooth`;
    if (this.#done.has(output)) return output;
    this.#done.add(output);
    const factors = divisors.map((divisor) => 1 / divisor);
    const name = `${input}/factors`;
    this.constants.set(name, floatTensor(name, [factors.length], factors));
    this.nodes.push(createNode({ op: 'Mul', inputs: [input, name], output }));
    return output;
  }

  /** Queries, keys and values come of the same states, which are quantized once. */
  #quantizeOnce(input: string): [string, string, string] {
    const outputs: [string, string, string] = [`${input}/u8`, `${input}/scale`, `${input}/zero`];
    if (this.#done.has(outputs[0])) return outputs;
    this.#done.add(outputs[0]);
    const quantize = createNode({
      op: 'DynamicQuantizeLinear',
      inputs: [input],
      output: outputs[0],
    });
    this.nodes.push({ ...quantize, outputs });
    return outputs;
  }

  #ownNode(op: string, inputs: readonly string[], output: string): void {
    this.nodes.push({ ...createNode({ op, inputs, output }), domain: ORT_DOMAIN });
  }

  #isTableLookup(node: GraphNode): boolean {
    const table = this.constants.get(node.inputs[0] ?? '');
    return (
      node.op === 'Gather' &&
      table?.elementType === ELEMENT.float &&
      elementCountOf(table.dims) >= TABLE_ELEMENTS_MIN
    );
  }

  #lookup(node: GraphNode): void {
    const [name = '', ...rest] = node.inputs;
    const table = this.constants.get(name);
    const output = node.outputs[0] ?? '';
    const half = `${output}/half`;
    if (table !== undefined) {
      const data = halfData(table.data, name);
      const elementType = ELEMENT.float16;
      this.constants.set(`${name}/half`, { ...table, name: `${name}/half`, elementType, data });
    }
    this.nodes.push({ ...node, inputs: [`${name}/half`, ...rest], outputs: [half] });
    const to = { kind: 'int', value: BigInt(ELEMENT.float) } as const;
    this.nodes.push(createNode({ op: 'Cast', inputs: [half], output, attributes: { to } }));
  }
}
