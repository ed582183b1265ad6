import { unpack } from 'msgpackr';
import { TRITON_DIMENSION } from '../target/bench-triton.ts';

/**
 * The forms of a reply that the benches ask for; `replaced` is the one vector that the replaced
 * kind of service answers.
 */
export type ReplyKind = 'json' | 'msgpack' | 'raw' | 'replaced';

/** `Accept` of each. */
export const ACCEPT: Readonly<Record<ReplyKind, string>> = {
  json: 'application/json',
  msgpack: 'application/msgpack',
  raw: 'application/octet-stream',
  replaced: 'application/json',
};

interface PackedArray {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/**
 * The rows of a reply, by other code than the server's: the JSON of the runtime, the msgpack of a
 * library.
 *
 * @param body borrowed.
 * @returns one `[dimension]` float32 array for each text, owned by the caller.
 * @throws Error when the body is not such a reply.
 */
export function rowsOfReply(body: Uint8Array, kind: ReplyKind): readonly Float32Array[] {
  if (kind === 'msgpack') return rowsOfMsgpack(body);
  if (kind === 'raw') return rowsOfBytes(body, TRITON_DIMENSION);
  const parsed = JSON.parse(new TextDecoder().decode(body)) as Record<string, unknown>;
  const rows = 'embedding' in parsed ? [parsed.embedding] : parsed.embeddings;
  if (!Array.isArray(rows)) throw new Error('the reply has neither embedding nor embeddings');
  return rows.map((row: unknown) => {
    if (!Array.isArray(row)) throw new Error('a row is no array');
    return Float32Array.from(row as number[]);
  });
}

function rowsOfMsgpack(body: Uint8Array): readonly Float32Array[] {
  const parsed = unpack(body) as Record<string, PackedArray | undefined>;
  const packed = parsed.embedding ?? parsed.embeddings;
  if (packed === undefined) throw new Error('the reply has neither embedding nor embeddings');
  const rows = rowsOfBytes(packed.data, packed.shape.at(-1) ?? 0);
  const count = packed.shape.length === 1 ? 1 : (packed.shape[0] ?? 0);
  if (rows.length !== count) throw new Error('shape and data differ');
  return rows;
}

function rowsOfBytes(bytes: Uint8Array, dimension: number): readonly Float32Array[] {
  const count = bytes.length / (4 * dimension);
  if (!Number.isInteger(count)) throw new Error('the bytes are no rows');
  const values = new Float32Array(new Uint8Array(bytes).buffer);
  return Array.from({ length: count }, (_, index) =>
    values.subarray(index * dimension, (index + 1) * dimension),
  );
}

/**
 * What is wrong with rows, in words; undefined when they are as expected.
 *
 * @param expected borrowed; `tolerance` is the largest difference of a component.
 */
export function faultOfRows(
  rows: readonly Float32Array[],
  expected: readonly Float32Array[],
  tolerance: number,
): string | undefined {
  if (rows.length !== expected.length) return `${rows.length} rows, not ${expected.length}`;
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at];
    const right = expected[at];
    if (row.length !== right.length)
      return `row ${at} has ${row.length} values, not ${right.length}`;
    for (let index = 0; index < row.length; index++) {
      if (Math.abs(row[index] - right[index]) <= tolerance) continue;
      return `row ${at}, value ${index} is ${row[index]}, not ${right[index]}`;
    }
  }
  return undefined;
}
