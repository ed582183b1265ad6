import { closeSync, openSync, readSync } from 'node:fs';
import { demand } from '../provision-error.ts';

/**
 * An attribute's value, by kind. Graphs inside nodes (loops, branches) are refused when a model is
 * read.
 */
export type Attribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] };

/** One operation. An empty input name is an optional input left out. */
export interface GraphNode {
  readonly name: string;
  readonly op: string;
  /** Empty for the standard operators. */
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, Attribute>;
}

/**
 * An input or output of the whole graph. A dimension is a size, or a name, or null when nothing is
 * said.
 */
export interface GraphValue {
  readonly name: string;
  readonly elementType: number;
  /** Null when the graph gives no shape at all. */
  readonly dims: readonly (number | string | null)[] | null;
}

/** A graph: nodes in an order in which they can run, and the constants they read. */
export interface Graph {
  readonly name: string;
  readonly nodes: readonly GraphNode[];
  readonly constants: ReadonlyMap<string, Tensor>;
  readonly inputs: readonly GraphValue[];
  readonly outputs: readonly GraphValue[];
}

/**
 * A model as ONNX files hold it, without the weights themselves: those stay where they are until
 * they are written.
 */
export interface OnnxModel {
  readonly irVersion: number;
  /** Versions of the operator sets, by domain; the standard one under the empty name. */
  readonly opsets: ReadonlyMap<string, number>;
  readonly metadata: ReadonlyMap<string, string>;
  readonly graph: Graph;
}

/** A standard node with one output, named after it. */
export function createNode(options: {
  op: string;
  inputs: readonly string[];
  output: string;
  attributes?: Readonly<Record<string, Attribute>>;
}): GraphNode {
  return {
    name: `${options.output}/${options.op}`,
    op: options.op,
    domain: '',
    inputs: options.inputs,
    outputs: [options.output],
    attributes: new Map(Object.entries(options.attributes ?? {})),
  };
}

/** The version of the standard operators that a model is written for. */
export function opsetOf(model: OnnxModel): number {
  return model.opsets.get('') ?? model.opsets.get('ai.onnx') ?? 1;
}

/** An integer attribute, or `fallback` when the node does not have it. */
export function intAttribute(node: GraphNode, name: string, fallback: number): number {
  const attribute = node.attributes.get(name);
  return attribute?.kind === 'int' ? Number(attribute.value) : fallback;
}

/** An attribute of several integers, or undefined when the node does not have it. */
export function intsAttribute(node: GraphNode, name: string): readonly bigint[] | undefined {
  const attribute = node.attributes.get(name);
  return attribute?.kind === 'ints' ? attribute.value : undefined;
}

/** The element types that embedding models use, by their numbers in `onnx.TensorProto.DataType`. */
export const ELEMENT = {
  float: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  double: 11,
  bfloat16: 16,
  /** Two values a byte, the lower half first. */
  int4: 22,
} as const;

/** Bytes of one element, by element type. */
export const ELEMENT_BYTES: Readonly<Record<number, number>> = {
  [ELEMENT.float]: 4,
  [ELEMENT.uint8]: 1,
  [ELEMENT.int8]: 1,
  [ELEMENT.int32]: 4,
  [ELEMENT.int64]: 8,
  [ELEMENT.bool]: 1,
  [ELEMENT.float16]: 2,
  [ELEMENT.double]: 8,
  [ELEMENT.bfloat16]: 2,
};

/**
 * A tensor's data, little endian and row major, given in pieces so that none need be held whole.
 */
export interface TensorData {
  readonly byteCount: number;
  /** All of it, where it is in memory already; borrowed. */
  readonly bytes?: Uint8Array;
  /**
   * The pieces in order. Each is borrowed and valid until the next one; its length divides by eight
   * but for the last.
   */
  chunks(): Iterable<Uint8Array>;
  /** Where the bytes lie in a file as they are; absent for what is made or in memory. */
  readonly place?: { readonly path: string; readonly start: number };
}

/** A constant of the graph. */
export interface Tensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly elementType: number;
  readonly data: TensorData;
}

/**
 * One piece of a file or of a generated tensor: large enough that calls cost nothing, small beside
 * any weight.
 */
const CHUNK_BYTES = 1 << 20;

/** Data in memory. Borrows `bytes`. */
export function memoryData(bytes: Uint8Array): TensorData {
  return { byteCount: bytes.length, bytes, chunks: () => [bytes] };
}

/** Data in a part of a file. The file is opened anew for each reading, and must not change. */
export function fileData(options: { path: string; start: number; byteCount: number }): TensorData {
  const { path, start, byteCount } = options;
  return {
    byteCount,
    place: { path, start },
    *chunks() {
      const descriptor = openSync(path, 'r');
      try {
        const buffer = new Uint8Array(Math.min(CHUNK_BYTES, byteCount));
        for (let at = 0; at < byteCount; ) {
          const wanted = Math.min(buffer.length, byteCount - at);
          const read = readSync(descriptor, buffer, 0, wanted, start + at);
          demand(read === wanted, `${path} ends at byte ${start + at + read}, inside a tensor.`);
          yield buffer.subarray(0, wanted);
          at += wanted;
        }
      } finally {
        closeSync(descriptor);
      }
    },
  };
}

/**
 * Float32 data made as it is read: `fill` writes the elements from `firstIndex` on into the piece
 * it is lent.
 */
export function generatedData(options: {
  elementCount: number;
  fill: (piece: Float32Array, firstIndex: number) => void;
}): TensorData {
  return {
    byteCount: options.elementCount * 4,
    *chunks() {
      const piece = new Float32Array(Math.min(CHUNK_BYTES / 4, options.elementCount));
      for (let index = 0; index < options.elementCount; index += piece.length) {
        const part = piece.subarray(0, Math.min(piece.length, options.elementCount - index));
        options.fill(part, index);
        yield new Uint8Array(part.buffer, 0, part.byteLength);
      }
    },
  };
}

/**
 * Float32 data as float16, rounded to nearest even while it is read.
 *
 * @throws ProvisionError from `chunks`, naming `label`, when a weight is not finite or is over what
 * float16 can hold.
 */
export function halfData(source: TensorData, label: string): TensorData {
  return {
    byteCount: source.byteCount / 2,
    *chunks() {
      for (const chunk of source.chunks()) {
        const half = new Float16Array(asFloat32(chunk));
        const fits = half.every(Number.isFinite);
        demand(fits, `A weight of ${label} does not fit float16.`);
        yield new Uint8Array(half.buffer);
      }
    },
  };
}

/**
 * Float32 data as bfloat16, its upper half, rounded to nearest even while it is read.
 *
 * @throws ProvisionError from `chunks`, naming `label`, when a weight is not finite.
 */
export function bfloat16Data(source: TensorData, label: string): TensorData {
  return {
    byteCount: source.byteCount / 2,
    *chunks() {
      for (const chunk of source.chunks()) {
        const floats = asFloat32(chunk);
        demand(floats.every(Number.isFinite), `A weight of ${label} is not finite.`);
        const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
        const half = Uint16Array.from(bits, (one) => (one + 0x7fff + ((one >>> 16) & 1)) >>> 16);
        yield new Uint8Array(half.buffer);
      }
    },
  };
}

/** All the bytes of a tensor that is known to be small; owned by the caller. */
export function loadData(data: TensorData): Uint8Array {
  const out = new Uint8Array(data.byteCount);
  let at = 0;
  for (const chunk of data.chunks()) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/** The numbers of a small float32 tensor; owned by the caller. */
export function loadFloats(tensor: Tensor): Float32Array {
  demand(tensor.elementType === ELEMENT.float, `${tensor.name} is not float32.`);
  return new Float32Array(loadData(tensor.data).buffer);
}

/** A float32 constant. Copies `values`. */
export function floatTensor(
  name: string,
  dims: readonly number[],
  values: ArrayLike<number>,
): Tensor {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  return { name, dims, elementType: ELEMENT.float, data: memoryData(bytes) };
}

/** A float32 constant that is made each time it is read. */
export function lazyFloats(options: {
  readonly name: string;
  readonly dims: readonly number[];
  readonly make: () => Float32Array;
}): Tensor {
  const { name, dims, make } = options;
  const data: TensorData = {
    byteCount: 4 * elementCountOf(dims),
    *chunks() {
      const { buffer, byteOffset, byteLength } = make();
      yield new Uint8Array(buffer, byteOffset, byteLength);
    },
  };
  return { name, dims, elementType: ELEMENT.float, data };
}

/** An int64 constant of one dimension, as axes and shapes are given. */
export function intTensor(name: string, values: readonly (bigint | number)[]): Tensor {
  const bytes = new Uint8Array(BigInt64Array.from(values.map(BigInt)).buffer);
  return { name, dims: [values.length], elementType: ELEMENT.int64, data: memoryData(bytes) };
}

/** How many elements a shape holds. */
export function elementCountOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

function asFloat32(chunk: Uint8Array): Float32Array {
  if (chunk.byteOffset % 4 === 0) {
    return new Float32Array(chunk.buffer, chunk.byteOffset, chunk.byteLength / 4);
  }
  return new Float32Array(chunk.slice().buffer);
}
