import { unpack } from 'msgpackr';
import type { Head } from '../../vectors/output.ts';

/** What one text got, read by code that the server does not use. */
export interface ReadHeads {
  readonly dense?: Float32Array | undefined;
  readonly sparse?:
    | { readonly indices: readonly number[]; readonly values: readonly number[] }
    | undefined;
  readonly multiVector?: Float32Array | undefined;
  readonly tokens?: readonly string[];
}

/** The reply's keys, and what each text got. */
export interface ReadReply {
  readonly keys: readonly string[];
  readonly texts: readonly ReadHeads[];
}

interface Block {
  readonly dtype: '<f4' | '<f2' | '<i4';
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

interface Wire {
  readonly embeddings?: Block | readonly (readonly number[] | string)[];
  readonly sparse?: readonly { indices: unknown; values: unknown; tokens?: string[] }[];
  readonly multi_vector?: readonly (Block | readonly (readonly number[])[] | string)[];
  readonly tokens: readonly number[];
}

/**
 * Takes a reply to several texts apart, JSON or msgpack by its Content-Type.
 *
 * @throws Error when it is no 200 or the parts do not fit one another.
 */
export async function readHeads(reply: Response): Promise<ReadReply> {
  if (reply.status !== 200) throw new Error(`${reply.status}: ${await reply.text()}`);
  const isJson = reply.headers.get('content-type') === 'application/json';
  const wire: Wire = isJson ? await reply.json() : unpack(await reply.bytes());
  const rows = wire.embeddings === undefined ? undefined : rowsOf(wire.embeddings);
  const texts = wire.tokens.map((_, at) => {
    const sparse = wire.sparse?.[at];
    const vectors = wire.multi_vector?.[at];
    return {
      ...(rows === undefined ? {} : { dense: rows[at] }),
      ...(sparse === undefined
        ? {}
        : { sparse: { indices: numbersOf(sparse.indices), values: numbersOf(sparse.values) } }),
      ...(sparse?.tokens === undefined ? {} : { tokens: sparse.tokens }),
      ...(vectors === undefined ? {} : { multiVector: Float32Array.from(numbersOf(vectors)) }),
    };
  });
  return { keys: Object.keys(wire), texts };
}

/** The keys that a reply with these heads has, in its order. */
export function keysOf(heads: readonly Head[]): string[] {
  return [
    ...(heads.includes('dense') ? ['embeddings'] : []),
    ...['model', 'dim', 'tokens', 'truncated'],
    ...(heads.includes('sparse') ? ['sparse'] : []),
    ...(heads.includes('multi_vector') ? ['multi_vector'] : []),
  ];
}

function rowsOf(embeddings: NonNullable<Wire['embeddings']>): Float32Array[] {
  if ('data' in embeddings) {
    const [count, dimension] = embeddings.shape;
    const values = Float32Array.from(numbersOf(embeddings));
    return Array.from({ length: count }, (_, at) =>
      values.subarray(at * dimension, (at + 1) * dimension),
    );
  }
  return embeddings.map((row) => Float32Array.from(numbersOf(row)));
}

/** The numbers of a binary block, of a base64 string, of an array or of an array of arrays. */
function numbersOf(value: unknown): number[] {
  if (typeof value === 'string') {
    return [...new Float32Array(Uint8Array.fromBase64(value).buffer)];
  }
  if (Array.isArray(value)) return value.flat() as number[];
  const { dtype, shape, data } = value as Block;
  const bytes = Uint8Array.from(data).buffer;
  const arrays = { '<f4': Float32Array, '<f2': Float16Array, '<i4': Int32Array };
  const numbers = [...new arrays[dtype](bytes)];
  const count = shape.reduce((product, length) => product * length, 1);
  if (numbers.length !== count) throw new Error(`${numbers.length} numbers for shape ${shape}`);
  return numbers;
}
