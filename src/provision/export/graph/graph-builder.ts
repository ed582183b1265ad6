import { invariant } from '../../../base/invariant.ts';
import {
  type Attribute,
  createNode,
  type GraphNode,
  type OnnxModel,
  opsetOf,
} from '../../onnx/model.ts';
import { ELEMENT, floatTensor, intTensor, memoryData, type Tensor } from '../../onnx/tensor.ts';

/** Since this version of the operators, the axes of every reduction are an input. */
const REDUCE_AXES_INPUT_OPSET = 18;

/**
 * Collects nodes and constants to be added to a graph. Names start with `prefix`, which no tensor
 * of the graph may do: passes run once.
 */
export class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  readonly constants = new Map<string, Tensor>();
  readonly #prefix: string;
  readonly #opset: number;

  constructor(model: OnnxModel, prefix: string) {
    const { graph } = model;
    const names = [...graph.nodes.flatMap((node) => node.outputs), ...graph.constants.keys()];
    invariant(!names.some((name) => name.startsWith(prefix)), `${prefix} was added before.`);
    this.#prefix = prefix;
    this.#opset = opsetOf(model);
  }

  /**
   * Adds a standard node and returns its output's name: `<prefix><name>`, or `output` as it stands.
   */
  node(options: Omit<Parameters<typeof createNode>[0], 'output'> & Naming): string {
    const output = options.output ?? `${this.#prefix}${options.name}`;
    this.nodes.push(createNode({ ...options, output }));
    return output;
  }

  /** Adds the length of each row of the last axis, which stays with one element. */
  lastAxisLength(name: string, input: string): string {
    const attributes: Record<string, Attribute> = { keepdims: { kind: 'int', value: 1n } };
    const inputs = [input];
    if (this.#opset >= REDUCE_AXES_INPUT_OPSET) inputs.push(this.ints(`${name}/axes`, [-1]));
    else attributes.axes = { kind: 'ints', value: [-1n] };
    return this.node({ op: 'ReduceL2', name, inputs, attributes });
  }

  /** Adds a constant and returns its name. */
  constant(tensor: Tensor): string {
    const name = `${this.#prefix}${tensor.name}`;
    this.constants.set(name, { ...tensor, name });
    return name;
  }

  ints(name: string, values: readonly (bigint | number)[]): string {
    return this.constant(intTensor(name, values));
  }

  scalar(name: string, value: number): string {
    return this.constant(floatTensor(name, [], [value]));
  }

  int64Scalar(name: string, value: number): string {
    const bytes = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
    return this.constant({ name, dims: [], elementType: ELEMENT.int64, data: memoryData(bytes) });
  }
}

/** Either a name under the builder's prefix, or a full name, as outputs of the graph have. */
type Naming = { name: string; output?: undefined } | { output: string; name?: undefined };
