import type { Tensor } from './tensor.ts';

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
