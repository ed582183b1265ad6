import {
  type Attribute,
  ELEMENT,
  type GraphNode,
  type GraphValue,
  memoryData,
  type OnnxModel,
  type Tensor,
} from './model.ts';
import { modelParts } from './write-model.ts';

/** An element type by name. */
export type OnnxType = keyof typeof ELEMENT;

/** A node's attribute: an integer, a string, a list of integers, or a float when wrapped. */
export type OnnxAttribute = number | string | readonly number[] | { readonly float: number };

/** A graph's input or output; a dimension by name is dynamic. */
export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxType;
  readonly dimensions: readonly (number | string)[];
}

/**
 * Builds an ONNX model node by node. Constants' bytes are borrowed until it is written.
 */
export class OnnxGraph {
  readonly #nodes: GraphNode[] = [];
  readonly #constants = new Map<string, Tensor>();

  /**
   * Adds a constant tensor.
   *
   * @param bytes row-major, little endian; int4 as two values a byte, the lower half first.
   * @returns its name.
   */
  constant(
    name: string,
    tensor: { type: OnnxType; dimensions: readonly number[]; bytes: Uint8Array },
  ): string {
    const { type, dimensions: dims, bytes } = tensor;
    this.#constants.set(name, { name, dims, elementType: ELEMENT[type], data: memoryData(bytes) });
    return name;
  }

  /** Adds a one-dimensional int64 constant, as shapes and axes are given. */
  integers(name: string, ...values: number[]): string {
    const bytes = bytesOf(BigInt64Array.from(values, BigInt));
    return this.constant(name, { type: 'int64', dimensions: [values.length], bytes });
  }

  /** Adds a float32 constant; one-dimensional unless told otherwise. */
  floats(name: string, values: Float32Array, dimensions = [values.length]): string {
    return this.constant(name, { type: 'float', dimensions, bytes: bytesOf(values) });
  }

  /**
   * Adds a node, named after its first output.
   *
   * @param domain of the operator; ONNX's own when absent.
   * @returns the first output's name.
   */
  node(options: {
    readonly operator: string;
    /** An empty name stands for an input that is left out. */
    readonly inputs: readonly string[];
    readonly outputs: readonly [string, ...string[]];
    readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
    readonly domain?: string;
  }): string {
    const { operator, inputs, outputs, attributes = {}, domain = '' } = options;
    const [output] = outputs;
    this.#nodes.push({
      ...{ name: `${output}_n`, op: operator, domain, inputs, outputs },
      attributes: new Map(
        Object.entries(attributes).map(([name, value]) => [name, attributeOf(value)]),
      ),
    });
    return output;
  }

  /** The whole model as parts in file order. */
  toModel(options: {
    readonly name: string;
    readonly producer: string;
    readonly inputs: readonly OnnxValue[];
    readonly outputs: readonly OnnxValue[];
    /** Version by operator domain. */
    readonly operatorSets: Readonly<Record<string, number>>;
    readonly metadata: Readonly<Record<string, string>>;
  }): readonly Uint8Array[] {
    const model: OnnxModel = {
      irVersion: IR_VERSION,
      opsets: new Map(Object.entries(options.operatorSets)),
      metadata: new Map(Object.entries(options.metadata)),
      graph: {
        name: options.name,
        nodes: this.#nodes,
        constants: this.#constants,
        inputs: options.inputs.map(graphValueOf),
        outputs: options.outputs.map(graphValueOf),
      },
    };
    return modelParts(model, options.producer);
  }
}

/**
 * A typed array's bytes, borrowed. ONNX is little endian, and so is every machine that Bun runs on.
 */
export function bytesOf(values: ArrayBufferView): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

// The first version of the format that knows int4 tensors.
const IR_VERSION = 10;

function attributeOf(value: OnnxAttribute): Attribute {
  if (typeof value === 'number') return { kind: 'int', value: BigInt(value) };
  if (typeof value === 'string') return { kind: 'string', value };
  if ('float' in value) return { kind: 'float', value: value.float };
  return { kind: 'ints', value: value.map(BigInt) };
}

function graphValueOf({ name, type, dimensions }: OnnxValue): GraphValue {
  return { name, elementType: ELEMENT[type], dims: dimensions };
}
