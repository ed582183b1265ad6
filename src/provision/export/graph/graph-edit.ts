import { invariant } from '../../../base/errors.ts';
import {
  floatTensor,
  type Graph,
  type GraphNode,
  type GraphValue,
  intTensor,
  type OnnxModel,
  type Tensor,
} from '../../onnx/model.ts';

/** Which node makes each tensor, and which nodes read it. */
export interface Wiring {
  readonly producer: ReadonlyMap<string, GraphNode>;
  readonly consumers: ReadonlyMap<string, readonly GraphNode[]>;
}

/** Reads the wiring of a graph; valid until nodes change. */
export function wiringOf(nodes: readonly GraphNode[]): Wiring {
  const producer = new Map<string, GraphNode>();
  const consumers = new Map<string, GraphNode[]>();
  for (const node of nodes) {
    for (const output of node.outputs) producer.set(output, node);
    for (const input of new Set(node.inputs)) {
      const readers = consumers.get(input);
      if (readers) readers.push(node);
      else consumers.set(input, [node]);
    }
  }
  return { producer, consumers };
}

/** The same model with another graph. */
export function withGraph(model: OnnxModel, change: Partial<Graph>): OnnxModel {
  return { ...model, graph: { ...model.graph, ...change } };
}

/**
 * Turns `Constant` nodes into constants of the graph, so that later passes need to know one form
 * only.
 */
export function hoistConstants(model: OnnxModel): OnnxModel {
  const constants = new Map(model.graph.constants);
  const nodes = model.graph.nodes.filter((node) => {
    if (node.op !== 'Constant' || node.domain !== '') return true;
    const name = node.outputs[0] ?? '';
    const tensor = constantOf(node, name);
    if (tensor) constants.set(name, tensor);
    return tensor === undefined;
  });
  return withGraph(model, { nodes, constants });
}

function constantOf(node: GraphNode, name: string): Tensor | undefined {
  const [key, attribute] = [...node.attributes][0] ?? [];
  const scalar = { dims: [] as number[] };
  switch (attribute?.kind) {
    case 'tensor':
      return { ...attribute.value, name };
    case 'float':
      return { ...floatTensor(name, [], [attribute.value]) };
    case 'int':
      return { ...intTensor(name, [attribute.value]), ...scalar };
    case 'floats':
      return floatTensor(name, [attribute.value.length], attribute.value);
    case 'ints':
      return intTensor(name, attribute.value);
    default:
      invariant(key !== 'value', `${name} is a constant without a value.`);
      return undefined;
  }
}

/** Drops what no output needs: nodes, and constants that nothing reads. */
export function prune(model: OnnxModel): OnnxModel {
  const { graph } = model;
  const needed = new Set(graph.outputs.map((output) => output.name));
  const nodes = graph.nodes
    .toReversed()
    .filter((node) => {
      const isNeeded = node.outputs.some((output) => needed.has(output));
      if (isNeeded) for (const input of node.inputs) needed.add(input);
      return isNeeded;
    })
    .reverse();
  const constants = new Map([...graph.constants].filter(([name]) => needed.has(name)));
  return withGraph(model, { nodes, constants });
}

/**
 * Gives tensors other names, wherever they are written or read. `rename` must keep different names
 * different.
 */
export function renameTensors(model: OnnxModel, rename: (name: string) => string): OnnxModel {
  const { graph } = model;
  const value = (old: GraphValue): GraphValue => ({ ...old, name: rename(old.name) });
  return withGraph(model, {
    nodes: graph.nodes.map((node) => ({
      ...node,
      inputs: node.inputs.map(rename),
      outputs: node.outputs.map(rename),
    })),
    constants: new Map(
      [...graph.constants].map(([name, tensor]) => [
        rename(name),
        { ...tensor, name: rename(name) },
      ]),
    ),
    inputs: graph.inputs.map(value),
    outputs: graph.outputs.map(value),
  });
}
