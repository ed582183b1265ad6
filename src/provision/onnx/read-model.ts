import { statSync } from 'node:fs';
import { dirname, isAbsolute, join, normalize } from 'node:path';
import { demand } from '../provision-error.ts';
import {
  type Attribute,
  ELEMENT,
  ELEMENT_BYTES,
  elementCountOf,
  fileData,
  type Graph,
  type GraphNode,
  type GraphValue,
  memoryData,
  type OnnxModel,
  type Tensor,
  type TensorData,
} from './model.ts';
import {
  type ByteSource,
  createFileSource,
  type ProtoField,
  protoFields,
  readBytes,
  readText,
  readVarints,
} from './protobuf.ts';

/** Where the message being read lies: its bytes, and the files that its tensors may point into. */
interface Place {
  readonly source: ByteSource;
  readonly path: string;
  readonly folder: string;
}

/**
 * Reads the structure of an ONNX model. Weights are not loaded: each constant knows the file and
 * the place of its bytes, which must stay where they are while the model is in use.
 *
 * @throws ProvisionError when the file is no ONNX model, or uses what the export does not handle.
 */
export function readModel(path: string): OnnxModel {
  const source = createFileSource(path);
  try {
    return readModelProto({ source, path, folder: dirname(path) });
  } finally {
    source.close();
  }
}

/** Names of the files beside `path` that its tensors point into, without reading any tensor. */
export function readExternalFiles(path: string): string[] {
  const source = createFileSource(path);
  const found = new Set<string>();
  // Tensors hide in initializers and in the attributes of nodes, so any message of the graph is
  // searched for one.
  const search = (start: number, end: number, trail: string): void => {
    for (const field of protoFields(source, start, end)) {
      const next = CHILDREN[trail]?.[field.number];
      if (next === undefined || field.wire !== 2) continue;
      if (next !== 'external') search(field.start, field.end, next);
      else {
        const entry = [...protoFields(source, field.start, field.end)];
        const [key, value] = [1, 2].map((number) => entry.find((part) => part.number === number));
        if (key && value && readText(source, key) === 'location')
          found.add(readText(source, value));
      }
    }
  };
  try {
    search(0, source.byteCount, 'model');
  } finally {
    source.close();
  }
  return [...found];
}

const CHILDREN: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  model: { 7: 'graph' },
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph' },
  tensor: { 13: 'external' },
};

function readModelProto(place: Place): OnnxModel {
  const { source, path } = place;
  const opsets = new Map<string, number>();
  const metadata = new Map<string, string>();
  let graph: Graph | undefined;
  let irVersion = 0;
  for (const field of protoFields(source)) {
    if (field.number === 1) irVersion = Number(field.varint);
    if (field.number === 7) graph = readGraph(place, field);
    if (field.number === 8) {
      const parts = fieldsOf(source, field);
      opsets.set(textOf(source, parts.get(1)), Number(parts.get(2)?.varint ?? 0n));
    }
    if (field.number === 14) {
      const parts = fieldsOf(source, field);
      metadata.set(textOf(source, parts.get(1)), textOf(source, parts.get(2)));
    }
    demand(field.number !== 25, `${path} has model-local functions, which are not handled.`);
  }
  demand(graph !== undefined, `${path} is no ONNX model: it has no graph.`);
  return { irVersion, opsets, metadata, graph };
}

function readGraph(place: Place, graph: ProtoField): Graph {
  const { source } = place;
  const nodes: GraphNode[] = [];
  const constants = new Map<string, Tensor>();
  const inputs: GraphValue[] = [];
  const outputs: GraphValue[] = [];
  let name = '';
  for (const field of protoFields(source, graph.start, graph.end)) {
    if (field.number === 1) nodes.push(readNode(place, field));
    if (field.number === 2) name = readText(source, field);
    if (field.number === 5) {
      const tensor = readTensor({ ...place, field });
      constants.set(tensor.name, tensor);
    }
    if (field.number === 11) inputs.push(readValue(source, field));
    if (field.number === 12) outputs.push(readValue(source, field));
    demand(field.number !== 15, `${place.path} has sparse constants, which are not handled.`);
  }
  // Before version 4 of the format, constants were listed among the inputs too.
  return { name, nodes, constants, inputs: inputs.filter((i) => !constants.has(i.name)), outputs };
}

function readNode(place: Place, node: ProtoField): GraphNode {
  const { source } = place;
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes = new Map<string, Attribute>();
  let [name, op, domain] = ['', '', ''];
  for (const field of protoFields(source, node.start, node.end)) {
    if (field.number === 1) inputs.push(readText(source, field));
    if (field.number === 2) outputs.push(readText(source, field));
    if (field.number === 3) name = readText(source, field);
    if (field.number === 4) op = readText(source, field);
    if (field.number === 5) readAttribute(place, field, attributes);
    if (field.number === 7) domain = readText(source, field);
  }
  return { name, op, domain: domain === 'ai.onnx' ? '' : domain, inputs, outputs, attributes };
}

/** `onnx.AttributeProto.AttributeType`. */
const TYPE = { float: 1n, int: 2n, string: 3n, tensor: 4n, floats: 6n, ints: 7n };

function readAttribute(place: Place, attribute: ProtoField, into: Map<string, Attribute>): void {
  const { source } = place;
  let name = '';
  let type = 0n;
  let [float, int, string] = [0, 0n, ''];
  let tensor: Tensor | undefined;
  const floats: number[] = [];
  const ints: bigint[] = [];
  for (const field of protoFields(source, attribute.start, attribute.end)) {
    if (field.number === 1) name = readText(source, field);
    if (field.number === 2) float = readFloats(source, field)[0] ?? 0;
    if (field.number === 3) int = BigInt.asIntN(64, field.varint);
    if (field.number === 4) string = readText(source, field);
    if (field.number === 5) tensor = readTensor({ ...place, field });
    if (field.number === 7) floats.push(...readFloats(source, field));
    if (field.number === 8) {
      ints.push(...readVarints(source, field).map((value) => BigInt.asIntN(64, value)));
    }
    if (field.number === 20) type = field.varint;
  }
  if (type === TYPE.float) into.set(name, { kind: 'float', value: float });
  else if (type === TYPE.int) into.set(name, { kind: 'int', value: int });
  else if (type === TYPE.string) into.set(name, { kind: 'string', value: string });
  else if (type === TYPE.tensor && tensor) into.set(name, { kind: 'tensor', value: tensor });
  else if (type === TYPE.floats) into.set(name, { kind: 'floats', value: floats });
  else if (type === TYPE.ints) into.set(name, { kind: 'ints', value: ints });
  else demand(false, `${place.path}: attribute ${name} has type ${type}, which is not handled.`);
}

function readValue(source: ByteSource, value: ProtoField): GraphValue {
  const parts = fieldsOf(source, value);
  const type = fieldsOf(source, parts.get(2));
  const tensor = fieldsOf(source, type.get(1));
  const shape = tensor.get(2);
  const dims: (number | string | null)[] = [];
  if (shape) {
    for (const field of protoFields(source, shape.start, shape.end)) {
      const dim = fieldsOf(source, field);
      const size = dim.get(1);
      const symbol = dim.get(2);
      dims.push(size ? Number(size.varint) : symbol ? readText(source, symbol) : null);
    }
  }
  return {
    name: textOf(source, parts.get(1)),
    elementType: Number(tensor.get(1)?.varint ?? 0n),
    dims: shape ? dims : null,
  };
}

/** The last field of each number, as protobuf reads singular fields. */
function fieldsOf(source: ByteSource, message: ProtoField | undefined): Map<number, ProtoField> {
  const fields = new Map<number, ProtoField>();
  if (!message) return fields;
  for (const field of protoFields(source, message.start, message.end)) {
    fields.set(field.number, field);
  }
  return fields;
}

function textOf(source: ByteSource, field: ProtoField | undefined): string {
  return field ? readText(source, field) : '';
}

function readFloats(source: ByteSource, field: ProtoField): number[] {
  return Array.from(new Float32Array(readBytes(source, field).buffer));
}

/** Smaller constants are kept in memory: shapes and axes are read again and again. */
const KEEP_BYTES_MAX = 4_096;

/**
 * Reads a tensor's description. Its bytes stay in their file, whether that is the model itself or
 * one beside it.
 *
 * @throws ProvisionError when the type is not handled, or when the place of the bytes cannot be.
 */
function readTensor(place: {
  source: ByteSource;
  path: string;
  folder: string;
  field: ProtoField;
}): Tensor {
  const { source, field: message } = place;
  const dims: number[] = [];
  const external = new Map<string, string>();
  const typed: ProtoField[] = [];
  let name = '';
  let elementType = 0;
  let raw: ProtoField | undefined;
  let isExternal = false;
  for (const field of protoFields(source, message.start, message.end)) {
    if (field.number === 1) dims.push(...readVarints(source, field).map(Number));
    if (field.number === 2) elementType = Number(field.varint);
    if ([4, 5, 7, 10].includes(field.number)) typed.push(field);
    if (field.number === 8) name = readText(source, field);
    if (field.number === 9) raw = field;
    if (field.number === 13) readEntry(source, field, external);
    if (field.number === 14) isExternal = field.varint === 1n;
  }
  const width = ELEMENT_BYTES[elementType];
  demand(width !== undefined, `Constant ${name} has element type ${elementType}, not handled.`);
  const byteCount = elementCountOf(dims) * width;
  const data = isExternal
    ? externalData({ ...place, name, external, byteCount })
    : raw
      ? innerData({ ...place, raw })
      : memoryData(typedBytes(source, typed, elementType));
  demand(
    data.byteCount === byteCount,
    `Constant ${name} has ${data.byteCount} bytes, but its shape [${dims}] needs ${byteCount}.`,
  );
  return { name, dims, elementType, data };
}

function innerData(place: { source: ByteSource; path: string; raw: ProtoField }): TensorData {
  const { source, path, raw } = place;
  if (raw.end - raw.start <= KEEP_BYTES_MAX) return memoryData(readBytes(source, raw));
  return fileData({ path, start: raw.start, byteCount: raw.end - raw.start });
}

function externalData(place: {
  folder: string;
  name: string;
  external: ReadonlyMap<string, string>;
  byteCount: number;
}): TensorData {
  const { folder, name, external, byteCount } = place;
  const location = normalize(external.get('location') ?? '');
  // A model is downloaded: its words must not make us read outside of its folder.
  demand(
    location !== '.' && !isAbsolute(location) && !location.startsWith('..'),
    `Constant ${name} points to "${location}", which is not a file beside the model.`,
  );
  const path = join(folder, location);
  const start = Number(external.get('offset') ?? 0);
  const length = Number(external.get('length') ?? byteCount);
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  demand(size !== undefined, `Constant ${name} needs the file ${path}, which is not there.`);
  demand(
    start >= 0 && start + length <= size,
    `Constant ${name} ends at byte ${start + length} of ${path}, which has ${size}.`,
  );
  return fileData({ path, start, byteCount: length });
}

/** Numbers given one by one in typed fields, as the bytes that the raw form would have. */
function typedBytes(source: ByteSource, fields: ProtoField[], elementType: number): Uint8Array {
  const isFixed = elementType === ELEMENT.float || elementType === ELEMENT.double;
  if (isFixed) {
    const parts = fields.map((field) => readBytes(source, field));
    return new Uint8Array(Buffer.concat(parts));
  }
  const values = fields.flatMap((field) => readVarints(source, field));
  const width = ELEMENT_BYTES[elementType] ?? 1;
  const view = new DataView(new ArrayBuffer(values.length * width));
  values.forEach((value, index) => {
    if (width === 8) view.setBigUint64(index * 8, value, true);
    else if (width === 4) view.setUint32(index * 4, Number(value & 0xffffffffn), true);
    else if (width === 2) view.setUint16(index * 2, Number(value & 0xffffn), true);
    else view.setUint8(index, Number(value & 0xffn));
  });
  return new Uint8Array(view.buffer);
}

function readEntry(source: ByteSource, entry: ProtoField, into: Map<string, string>): void {
  let [key, value] = ['', ''];
  for (const field of protoFields(source, entry.start, entry.end)) {
    if (field.number === 1) key = readText(source, field);
    if (field.number === 2) value = readText(source, field);
  }
  into.set(key, value);
}
