import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { invariant } from '../../base/errors.ts';
import { demand } from '../provision-error.ts';
import {
  type Attribute,
  type GraphNode,
  type GraphValue,
  loadData,
  type OnnxModel,
  type Tensor,
} from './model.ts';
import { ProtoWriter } from './protobuf.ts';

/**
 * Constants of at most this many bytes stay in the model file, where shape inference and people can
 * see them.
 */
const INNER_BYTES_MAX = 1_024;
/**
 * Pages can be mapped only from a multiple of the page size; runtimes map weights instead of
 * copying them.
 */
const ALIGNMENT_BYTES = 4_096;
const PRODUCER = 'bge-m3-encoder';

/**
 * Writes a model, its weights into one file beside it named `<model>_data`. Weights stream from
 * where they are to where they go, one piece in memory at a time. Both files appear under their
 * names only when they are whole.
 *
 * @returns sha256 of both files.
 */
export function writeModel(model: OnnxModel, path: string): { model: string; data: string } {
  const dataPath = `${path}_data`;
  const writer = createDataWriter(`${dataPath}.partial`);
  let message: ProtoWriter;
  try {
    message = writeModelProto(model, PRODUCER, (tensor) =>
      tensor.data.byteCount <= INNER_BYTES_MAX
        ? undefined
        : { location: basename(dataPath), ...writer.add(tensor) },
    );
  } finally {
    writer.close();
  }
  const sha256 = writeGraph(message, path, () => renameSync(`${dataPath}.partial`, dataPath));
  return { model: sha256, data: writer.sha256() };
}

/**
 * Writes a model whose weights all lie in one file beside it already: another graph over the same
 * numbers, at the cost of the graph.
 *
 * @returns sha256 of the graph.
 * @throws ProvisionError naming a weight that lies elsewhere.
 */
export function writeGraphOver(model: OnnxModel, path: string, dataPath: string): string {
  const location = basename(dataPath);
  const message = writeModelProto(model, PRODUCER, ({ name, data }) => {
    if (data.byteCount <= INNER_BYTES_MAX) return undefined;
    const place = data.place?.path === dataPath ? data.place : undefined;
    demand(place !== undefined, `${name} does not lie in ${dataPath}.`);
    return { location, start: place.start, byteCount: data.byteCount };
  });
  return writeGraph(message, path);
}

/** @param beforeRename done when the graph is on the disk, and not yet under its name. */
function writeGraph(message: ProtoWriter, path: string, beforeRename = () => {}): string {
  const bytes = Buffer.concat(message.parts);
  const descriptor = openSync(`${path}.partial`, 'w');
  try {
    writeFully(descriptor, bytes);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  beforeRename();
  renameSync(`${path}.partial`, path);
  return new Bun.CryptoHasher('sha256').update(bytes).digest('hex');
}

/**
 * The same in one file, its weights inside, as parts in file order. Weights in memory are borrowed.
 *
 * @param producer who made the model, as the file says.
 */
export function modelParts(model: OnnxModel, producer: string): readonly Uint8Array[] {
  return writeModelProto(model, producer, () => undefined).parts;
}

function createDataWriter(path: string) {
  const descriptor = openSync(path, 'w');
  const hasher = new Bun.CryptoHasher('sha256');
  let at = 0;
  const put = (bytes: Uint8Array): void => {
    writeFully(descriptor, bytes);
    hasher.update(bytes);
    at += bytes.length;
  };
  return {
    add(tensor: Tensor): { start: number; byteCount: number } {
      put(new Uint8Array((ALIGNMENT_BYTES - (at % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES));
      const start = at;
      for (const chunk of tensor.data.chunks()) put(chunk);
      invariant(at - start === tensor.data.byteCount, `${tensor.name} gave another byte count.`);
      return { start, byteCount: at - start };
    },
    close(): void {
      fsyncSync(descriptor);
      closeSync(descriptor);
    },
    sha256: () => hasher.digest('hex'),
  };
}

function writeFully(descriptor: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
}

/** Where a tensor's bytes lie in the file of the weights. */
interface DataPlace {
  readonly location: string;
  readonly start: number;
  readonly byteCount: number;
}

function writeModelProto(
  model: OnnxModel,
  producer: string,
  placeOf: (tensor: Tensor) => DataPlace | undefined,
): ProtoWriter {
  const graph = new ProtoWriter();
  for (const node of model.graph.nodes) graph.message(1, writeNode(node));
  graph.text(2, model.graph.name);
  for (const tensor of model.graph.constants.values()) {
    graph.message(5, writeTensor(tensor, placeOf(tensor)));
  }
  for (const input of model.graph.inputs) graph.message(11, writeValue(input));
  for (const output of model.graph.outputs) graph.message(12, writeValue(output));
  const out = new ProtoWriter().varint(1, model.irVersion).text(2, producer).message(7, graph);
  for (const [domain, version] of model.opsets) {
    out.message(8, new ProtoWriter().text(1, domain).varint(2, version));
  }
  for (const [key, value] of model.metadata) {
    out.message(14, new ProtoWriter().text(1, key).text(2, value));
  }
  return out;
}

function writeNode(node: GraphNode): ProtoWriter {
  const out = new ProtoWriter();
  for (const input of node.inputs) out.text(1, input);
  for (const output of node.outputs) out.text(2, output);
  out.text(3, node.name).text(4, node.op);
  for (const [name, attribute] of node.attributes) out.message(5, writeAttribute(name, attribute));
  return node.domain === '' ? out : out.text(7, node.domain);
}

function writeAttribute(name: string, attribute: Attribute): ProtoWriter {
  const out = new ProtoWriter().text(1, name);
  switch (attribute.kind) {
    case 'float':
      return out.float(2, attribute.value).varint(20, 1);
    case 'int':
      return out.varint(3, attribute.value).varint(20, 2);
    case 'string':
      return out.text(4, attribute.value).varint(20, 3);
    case 'tensor':
      return out.message(5, writeTensor(attribute.value, undefined)).varint(20, 4);
    case 'floats':
      for (const value of attribute.value) out.float(7, value);
      return out.varint(20, 6);
    case 'ints':
      for (const value of attribute.value) out.varint(8, value);
      return out.varint(20, 7);
  }
}

function writeTensor(tensor: Tensor, place: DataPlace | undefined): ProtoWriter {
  const out = new ProtoWriter();
  for (const dim of tensor.dims) out.varint(1, dim);
  out.varint(2, tensor.elementType).text(8, tensor.name);
  if (!place) return out.bytes(9, tensor.data.bytes ?? loadData(tensor.data));
  const entry = (key: string, value: string | number) =>
    out.message(13, new ProtoWriter().text(1, key).text(2, String(value)));
  entry('location', place.location);
  entry('offset', place.start);
  entry('length', place.byteCount);
  return out.varint(14, 1);
}

function writeValue(value: GraphValue): ProtoWriter {
  const tensor = new ProtoWriter().varint(1, value.elementType);
  if (value.dims) {
    const shape = new ProtoWriter();
    for (const dim of value.dims) {
      const out = new ProtoWriter();
      if (typeof dim === 'number') out.varint(1, dim);
      if (typeof dim === 'string') out.text(2, dim);
      shape.message(1, out);
    }
    tensor.message(2, shape);
  }
  return new ProtoWriter().text(1, value.name).message(2, new ProtoWriter().message(1, tensor));
}
