import { Unpackr } from 'msgpackr/unpack';
import { APIEncoderError, replyInvalid } from './api-encoder-error.ts';

/**
 * A head of the model: one kind of vector that it computes for a text. The published package holds
 * this folder alone, so the type stands here again; a test compares it with the server's.
 */
export type Head = 'dense' | 'sparse' | 'multi_vector';

/** The sparse head of one text: learned weights of the tokens that it holds. */
export interface SparseRow {
  /** Token ids, ascending; as long as `values`. */
  readonly indices: Int32Array;
  /** The weight of each id. */
  readonly values: Float32Array;
}

/** The multi-vector (ColBERT) head of one text. */
export interface MultiVector {
  readonly tokenCount: number;
  /** Row-major `[tokenCount, dimension]`. */
  readonly data: Float32Array;
}

/** Types of dense rows in fewer bytes. The server's README defines them. */
export const QUANTIZED_TYPES = ['int8', 'uint8', 'binary', 'ubinary'] as const;

/** One of them: whole numbers, or a bit a dimension. */
export type QuantizedType = (typeof QUANTIZED_TYPES)[number];

/** A row of such a type. */
export type QuantizedRow<Type extends QuantizedType = QuantizedType> = Type extends
  | 'int8'
  | 'binary'
  ? Int8Array
  : Uint8Array;

/** How the server spells the type of rows, and how many dimensions a value holds. */
const ROW_TYPES = {
  float32: { dtype: '<f4', dimensionsPerValue: 1, view: Float32Array },
  int8: { dtype: '|i1', dimensionsPerValue: 1, view: Int8Array },
  uint8: { dtype: '|u1', dimensionsPerValue: 1, view: Uint8Array },
  binary: { dtype: '|i1', dimensionsPerValue: 8, view: Int8Array },
  ubinary: { dtype: '|u1', dimensionsPerValue: 8, view: Uint8Array },
} as const;

/** A reply of `/encode`, checked. The arrays have one element a text. */
export interface EncodeReply {
  readonly model: string;
  readonly dimension: number;
  readonly tokenCounts: readonly number[];
  readonly truncated: readonly boolean[];
  readonly empty: readonly boolean[];
  /**
   * Row-major `[textCount, dimension]` float32, or what was asked for in its place, as bytes at any
   * alignment; borrowed from the body.
   */
  readonly dense: Uint8Array | undefined;
  readonly sparse: readonly SparseRow[] | undefined;
  readonly multiVectors: readonly MultiVector[] | undefined;
}

const unpackr = new Unpackr({ useRecords: false });

/**
 * Reads a msgpack reply of `/encode` to an array of texts, and checks every count and length in it.
 * Nothing else shows that a row went to the wrong text.
 *
 * @param body borrowed; `dense` of the result is a view of it, the other arrays are copies.
 * @throws APIEncoderError CLIENT_REPLY_INVALID.
 */
export function readEncodeReply(
  body: Uint8Array,
  asked: { textCount: number; heads: readonly Head[]; quantized?: QuantizedType | undefined },
): EncodeReply {
  const { textCount, heads } = asked;
  const { dtype, dimensionsPerValue } = ROW_TYPES[asked.quantized ?? 'float32'];
  const fields = unpackMap(body);
  const { model, dim, tokens, truncated, empty } = fields;
  const isDimension = typeof dim === 'number' && Number.isInteger(dim) && dim > 0;
  if (typeof model !== 'string' || !isDimension)
    throw replyInvalid('it names no model or dimension');
  const each = (value: unknown, name: string): readonly unknown[] => {
    if (Array.isArray(value) && value.length === textCount) return value;
    throw replyInvalid(`its ${name} are not one for each of the ${textCount} texts`);
  };
  const has = (head: Head): boolean => heads.includes(head);
  return {
    model,
    dimension: dim,
    tokenCounts: each(tokens, 'token counts').map(countOf),
    truncated: each(truncated, 'truncated flags').map((flag) => flag === true),
    // Told when there is one.
    empty:
      empty === undefined
        ? new Array<boolean>(textCount).fill(false)
        : each(empty, 'empty flags').map((flag) => flag === true),
    dense: has('dense')
      ? bytesOf(fields.embeddings, {
          dtype,
          shape: [textCount, Math.ceil(dim / dimensionsPerValue)],
        })
      : undefined,
    sparse: has('sparse') ? each(fields.sparse, 'sparse rows').map(readSparse) : undefined,
    multiVectors: has('multi_vector')
      ? each(fields.multi_vector, 'multi-vectors').map((value) => readMultiVector(value, dim))
      : undefined,
  };
}

type Fields = Readonly<Record<string, unknown>>;

function unpackMap(body: Uint8Array): Fields {
  let unpacked: unknown;
  try {
    unpacked = unpackr.unpack(body);
  } catch (cause) {
    throw replyInvalid('it is not msgpack', cause);
  }
  return mapOf(unpacked);
}

function mapOf(value: unknown): Fields {
  if (typeof value === 'object' && value !== null) return value as Fields;
  throw replyInvalid('a map is missing');
}

function readSparse(value: unknown): SparseRow {
  const { indices, values } = mapOf(value);
  const count = lengthOf(indices, 0);
  const indexBytes = bytesOf(indices, { dtype: '<i4', shape: [count] });
  const valueBytes = bytesOf(values, { dtype: '<f4', shape: [count] });
  return { indices: new Int32Array(copyOf(indexBytes)), values: floatsOf(valueBytes) };
}

function readMultiVector(value: unknown, dimension: number): MultiVector {
  const tokenCount = lengthOf(value, 0);
  const bytes = bytesOf(value, { dtype: '<f4', shape: [tokenCount, dimension] });
  return { tokenCount, data: floatsOf(bytes) };
}

/** The length of an axis as the block gives it. `bytesOf` checks the bytes against it. */
function lengthOf(block: unknown, axis: number): number {
  const { shape } = mapOf(block);
  const length: unknown = Array.isArray(shape) ? shape[axis] : undefined;
  if (typeof length === 'number' && Number.isInteger(length) && length >= 0) return length;
  throw replyInvalid('an array has no shape');
}

function countOf(value: unknown): number {
  if (typeof value === 'number') return value;
  throw replyInvalid('a token count is no number');
}

/** The bytes of an array that must have this type and shape. */
function bytesOf(
  block: unknown,
  expected: { dtype: '<f4' | '<i4' | '|i1' | '|u1'; shape: readonly number[] },
): Uint8Array {
  const { dtype, shape, data } = mapOf(block);
  const valueBytes = Number(expected.dtype.at(-1));
  const byteCount = expected.shape.reduce((product, length) => product * length, valueBytes);
  const isShape = Array.isArray(shape) && String(shape) === String(expected.shape);
  if (dtype === expected.dtype && isShape && data instanceof Uint8Array) {
    if (data.byteLength === byteCount) return data;
    throw replyInvalid(`an array has ${data.byteLength} bytes instead of ${byteCount}`);
  }
  const wanted = `${expected.dtype} [${expected.shape.join(', ')}]`;
  throw replyInvalid(`an array is ${String(dtype)} [${String(shape)}] instead of ${wanted}`);
}

/**
 * A copy of floats. In the body they may start at any byte, and a view would keep the whole body
 * alive.
 */
function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(copyOf(bytes));
}

function copyOf(bytes: Uint8Array): ArrayBuffer {
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  return copy.buffer;
}

/** Everything that the server says of one text. */
export interface EncodedText {
  /** The model that made the vectors. */
  readonly model: string;
  /** Tokens before truncation, special tokens included. */
  readonly tokenCount: number;
  /** Whether the model saw only the beginning of the text. */
  readonly truncated: boolean;
  /**
   * Whether nothing of the text was left to encode: it was blank. Its vector is then the same as that
   * of every blank text, or zeros where the server has EMPTY_TEXTS=null.
   */
  readonly empty: boolean;
  /** `[dimension]` float32; present when it was asked for. */
  readonly dense?: Float32Array;
  readonly sparse?: SparseRow;
  readonly multiVector?: MultiVector;
}

/** The dense rows of a call, all in one block of memory. */
export class RowMatrix {
  readonly #textCount: number;
  #rowBytes = 0;
  #bytes = new Uint8Array();

  constructor(textCount: number) {
    this.#textCount = textCount;
  }

  /**
   * Copies a reply's rows to their place, which also aligns them. The first reply gives the length
   * of rows.
   */
  place(start: number, { dense, tokenCounts }: EncodeReply): void {
    if (dense === undefined) return;
    if (this.#rowBytes === 0) {
      this.#rowBytes = dense.byteLength / tokenCounts.length;
      this.#bytes = new Uint8Array(this.#textCount * this.#rowBytes);
    }
    this.#bytes.set(dense, start * this.#rowBytes);
  }

  /** One view of the matrix for each text. The matrix lives as long as any of them. */
  rows(): Float32Array[] {
    return this.#views((buffer, at) => new Float32Array(buffer, at, this.#rowBytes / 4));
  }

  /** The same for rows of another type. */
  quantizedRows<Type extends QuantizedType>(type: Type): QuantizedRow<Type>[] {
    const { view } = ROW_TYPES[type];
    return this.#views((buffer, at) => new view(buffer, at, this.#rowBytes) as QuantizedRow<Type>);
  }

  #views<Row>(viewOf: (buffer: ArrayBuffer, at: number) => Row): Row[] {
    const { buffer } = this.#bytes;
    return Array.from({ length: this.#textCount }, (_, index) =>
      viewOf(buffer, index * this.#rowBytes),
    );
  }
}

/** The texts of one reply; their dense rows are views of one matrix. */
export function textsOfReply(reply: EncodeReply): EncodedText[] {
  const { model, tokenCounts, truncated, empty, sparse, multiVectors } = reply;
  const matrix = new RowMatrix(tokenCounts.length);
  matrix.place(0, reply);
  const rows = reply.dense === undefined ? undefined : matrix.rows();
  return tokenCounts.map((tokenCount, index) => ({
    model,
    tokenCount,
    truncated: truncated[index],
    empty: empty[index],
    ...(rows === undefined ? {} : { dense: rows[index] }),
    ...(sparse === undefined ? {} : { sparse: sparse[index] }),
    ...(multiVectors === undefined ? {} : { multiVector: multiVectors[index] }),
  }));
}

/**
 * Makes a check that all replies of a call come from one model. Behind a balancer two servers may
 * differ, for example during a rollout, and vectors of two models must not be mixed.
 *
 * @returns throws APIEncoderError CLIENT_REPLY_INVALID.
 */
export function createSameModelCheck(): (reply: EncodeReply) => void {
  let first: EncodeReply | undefined;
  return (reply) => {
    first ??= reply;
    if (first.model === reply.model && first.dimension === reply.dimension) return;
    throw new APIEncoderError(
      'CLIENT_REPLY_INVALID',
      `The replies come from two models, ${first.model} (${first.dimension} dimensions) and ` +
        `${reply.model} (${reply.dimension}); their vectors do not mix.`,
    );
  };
}
