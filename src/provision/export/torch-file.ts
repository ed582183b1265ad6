import { readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { floatTensor, type Tensor } from '../onnx/tensor.ts';
import { demand } from '../provision-error.ts';
import { readPickle, type Storage, StorageTensor } from './torch-pickle.ts';

/** A head's file holds one linear layer of at most 1,024 × 1,024 numbers: 4 MB in float32. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

/** A linear layer as PyTorch saves it: `y = x · weightᵀ + bias`. */
export interface LinearLayer {
  /** `[outputs, inputs]`, float32. */
  readonly weight: Tensor;
  /** `[outputs]`, float32. */
  readonly bias: Tensor;
}

/**
 * Reads a linear layer from a file that `torch.save` wrote, float32 or float16. Nothing in the file
 * is executed: its pickle may only describe tensors.
 *
 * @throws ProvisionError when the file is anything else.
 */
export function readLinearLayer(path: string): LinearLayer {
  const size = statSync(path).size;
  demand(size <= FILE_BYTES_MAX, `${path} has ${size} bytes: too large for the weights of a head.`);
  const entries = readZip(new Uint8Array(readFileSync(path)), basename(path));
  const [pickleName] = [...entries.keys()].filter((name) => name.endsWith('/data.pkl'));
  demand(pickleName !== undefined, `${path} is not what torch.save writes: it has no data.pkl.`);
  const root = pickleName.slice(0, -'data.pkl'.length);
  const order = entries.get(`${root}byteorder`);
  demand(
    !order || new TextDecoder().decode(order) === 'little',
    `${path} was saved on a big-endian machine, which is not handled.`,
  );
  const state = readPickle(entries.get(pickleName) ?? new Uint8Array(), basename(path));
  const tensor = (name: string, rank: number): Tensor => {
    const value = state instanceof Map ? state.get(name) : undefined;
    demand(
      value instanceof StorageTensor && value.dims.length === rank,
      `${path} has no ${name} of ${rank} dimensions.`,
    );
    const bytes = entries.get(`${root}data/${value.storage.key}`);
    demand(bytes !== undefined, `${path} lacks the data of ${name}.`);
    return floatTensor(name, value.dims, readStorage(value, bytes, path));
  };
  const layer = { weight: tensor('weight', 2), bias: tensor('bias', 1) };
  demand(
    layer.weight.dims[0] === layer.bias.dims[0],
    `${path}: weight is [${layer.weight.dims}], bias is [${layer.bias.dims}].`,
  );
  return layer;
}

const BYTES: Readonly<Record<Storage['type'], number>> = { float: 4, half: 2 };

function readStorage(value: StorageTensor, bytes: Uint8Array, path: string): Float32Array {
  const { dims, strides, offset, storage } = value;
  let expected = 1;
  for (let axis = dims.length - 1; axis >= 0; axis -= 1) {
    demand(
      dims[axis] === 1 || strides[axis] === expected,
      `${path} holds a tensor that is not contiguous, which is not handled.`,
    );
    expected *= dims[axis] ?? 0;
  }
  const width = BYTES[storage.type];
  demand(
    bytes.length >= (offset + expected) * width,
    `${path}: a tensor of ${expected} numbers has ${bytes.length} bytes.`,
  );
  const part = bytes.slice(offset * width, (offset + expected) * width);
  const values =
    storage.type === 'half'
      ? new Float32Array(new Float16Array(part.buffer))
      : new Float32Array(part.buffer);
  demand(values.every(Number.isFinite), `${path} holds a number that is not finite.`);
  return values;
}

const CENTRAL_END = 0x06054b50;
const CENTRAL_ENTRY = 0x02014b50;
const LOCAL_ENTRY = 0x04034b50;

/** Entries of a zip archive by name. torch stores them without compression, and under 4 GB here. */
function readZip(file: Uint8Array, label: string): Map<string, Uint8Array> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const entries = new Map<string, Uint8Array>();
  let end = file.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== CENTRAL_END) end -= 1;
  demand(end >= 0, `${label} is no zip archive: old torch files are not handled.`);
  let at = view.getUint32(end + 16, true);
  try {
    for (let count = view.getUint16(end + 10, true); count > 0; count -= 1) {
      demand(view.getUint32(at, true) === CENTRAL_ENTRY, `${label}: the zip directory is broken.`);
      const nameLength = view.getUint16(at + 28, true);
      const name = new TextDecoder().decode(file.subarray(at + 46, at + 46 + nameLength));
      entries.set(name, readEntry({ file, view, at, label: `${label}: ${name}` }));
      at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    }
  } catch (error) {
    demand(!(error instanceof RangeError), `${label}: the zip archive is cut short.`);
    throw error;
  }
  return entries;
}

function readEntry(zip: { file: Uint8Array; view: DataView; at: number; label: string }) {
  const { file, view, at, label } = zip;
  demand(view.getUint16(at + 10, true) === 0, `${label} is compressed, which is not handled.`);
  const size = view.getUint32(at + 24, true);
  const local = view.getUint32(at + 42, true);
  demand(view.getUint32(local, true) === LOCAL_ENTRY, `${label}: no such entry at ${local}.`);
  const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  const bytes = file.subarray(start, start + size);
  const isWhole = bytes.length === size && Bun.hash.crc32(bytes) === view.getUint32(at + 16, true);
  demand(isWhole, `${label} is damaged: its checksum does not match.`);
  return bytes;
}
