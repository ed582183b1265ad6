import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { floatTensor, type Tensor } from '../onnx/model.ts';
import { demand } from '../provision-error.ts';
import { readZipEntries } from '../zip-entries.ts';
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
export async function readLinearLayer(path: string): Promise<LinearLayer> {
  const size = statSync(path).size;
  demand(size <= FILE_BYTES_MAX, `${path} has ${size} bytes: too large for the weights of a head.`);
  const entries = await readZipEntries({
    ...{ path, isWanted: () => true, entryBytesMax: FILE_BYTES_MAX },
  });
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
