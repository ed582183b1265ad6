import { statSync } from 'node:fs';
import { isAbsolute, join, normalize } from 'node:path';
import { demand } from '../provision-error.ts';
import {
  type ByteSource,
  type ProtoField,
  protoFields,
  readBytes,
  readText,
  readVarints,
} from './protobuf.ts';
import {
  ELEMENT,
  ELEMENT_BYTES,
  elementCountOf,
  fileData,
  memoryData,
  type Tensor,
  type TensorData,
} from './tensor.ts';

/** Smaller constants are kept in memory: shapes and axes are read again and again. */
const KEEP_BYTES_MAX = 4_096;

/**
 * Reads a tensor's description. Its bytes stay in their file, whether that is the model itself or
 * one beside it.
 *
 * @throws ProvisionError when the type is not handled, or when the place of the bytes cannot be.
 */
export function readTensor(place: {
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
