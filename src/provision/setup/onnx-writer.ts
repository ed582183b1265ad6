import { ProtobufWriter } from './protobuf-writer.ts';

/** ONNX's numbers for the element types used here (`TensorProto.DataType`). */
export const ONNX_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int64: 7,
  float16: 10,
  int4: 22,
} as const;

/** An element type by name. */
export type OnnxType = keyof typeof ONNX_TYPES;

/** A node's attribute: an integer, a string, a list of integers, or a float when wrapped. */
export type OnnxAttribute = number | string | readonly number[] | { readonly float: number };

/** A graph's input or output; a dimension by name is dynamic. */
export interface OnnxValue {
  readonly name: string;
  readonly type: OnnxType;
  readonly dimensions: readonly (number | string)[];
}

/**
 * Collects nodes and constants of an ONNX graph and writes the model. Constants' bytes are borrowed
 * until it is written.
 */
export class OnnxGraph {
  readonly #nodes: ProtobufWriter[] = [];
  readonly #constants: ProtobufWriter[] = [];

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
    const message = new ProtobufWriter();
    for (const dimension of tensor.dimensions) message.integer(1, dimension);
    message.integer(2, ONNX_TYPES[tensor.type]).string(8, name).bytes(9, tensor.bytes);
    this.#constants.push(message);
    return name;
  }

  /** Adds a one-dimensional int64 constant, as shapes and axes are given. */
  integers(name: string, ...values: number[]): string {
    const bytes = bytesOf(BigInt64Array.from(values, BigInt));
    return this.constant(name, { type: 'int64', dimensions: [values.length], bytes });
  }

  /** Adds a float32 constant; one-dimensional unless told otherwise. */
  floats(name: string, values: Float32Array, dimensions = [values.length]): string {
    return this.constant(name, { type: 'float32', dimensions, bytes: bytesOf(values) });
  }

  /**
   * Adds a node, named after its first output.
   *
   * @param domain of the operator; ONNX's own when absent.
   * @returns the first output's name.
   */
  node(options: {
    readonly operator: string;
    readonly inputs: readonly string[];
    readonly outputs: readonly [string, ...string[]];
    readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
    readonly domain?: string;
  }): string {
    const message = new ProtobufWriter();
    // An empty name stands for an input that is left out.
    for (const input of options.inputs) message.string(1, input);
    for (const output of options.outputs) message.string(2, output);
    message.string(3, `${options.outputs[0]}_n`).string(4, options.operator);
    for (const [name, value] of Object.entries(options.attributes ?? {})) {
      message.message(5, encodeAttribute(name, value));
    }
    if (options.domain !== undefined) message.string(7, options.domain);
    this.#nodes.push(message);
    return options.outputs[0];
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
    const graph = new ProtobufWriter();
    for (const node of this.#nodes) graph.message(1, node);
    graph.string(2, options.name);
    for (const constant of this.#constants) graph.message(5, constant);
    for (const input of options.inputs) graph.message(11, encodeValue(input));
    for (const output of options.outputs) graph.message(12, encodeValue(output));
    const model = new ProtobufWriter();
    model.integer(1, IR_VERSION).string(2, options.producer).message(7, graph);
    for (const [domain, version] of Object.entries(options.operatorSets)) {
      model.message(8, new ProtobufWriter().string(1, domain).integer(2, version));
    }
    for (const [key, value] of Object.entries(options.metadata)) {
      model.message(14, new ProtobufWriter().string(1, key).string(2, value));
    }
    return model.parts;
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

// `AttributeProto.AttributeType`.
const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_STRING = 3;
const ATTRIBUTE_INTS = 7;

function encodeAttribute(name: string, value: OnnxAttribute): ProtobufWriter {
  const message = new ProtobufWriter().string(1, name);
  if (typeof value === 'number') return message.integer(3, value).integer(20, ATTRIBUTE_INT);
  if (typeof value === 'string') return message.string(4, value).integer(20, ATTRIBUTE_STRING);
  if ('float' in value) return message.float(2, value.float).integer(20, ATTRIBUTE_FLOAT);
  for (const item of value) message.integer(8, item);
  return message.integer(20, ATTRIBUTE_INTS);
}

function encodeValue(value: OnnxValue): ProtobufWriter {
  const shape = new ProtobufWriter();
  for (const dimension of value.dimensions) {
    const message = new ProtobufWriter();
    if (typeof dimension === 'number') message.integer(1, dimension);
    else message.string(2, dimension);
    shape.message(1, message);
  }
  const tensor = new ProtobufWriter().integer(1, ONNX_TYPES[value.type]).message(2, shape);
  return new ProtobufWriter()
    .string(1, value.name)
    .message(2, new ProtobufWriter().message(1, tensor));
}
