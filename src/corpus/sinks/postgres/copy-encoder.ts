import { float16Of } from '../../../reply/row-bytes.ts';
import { type ColumnKind, columnValue } from '../../job/records.ts';
import type { PartEncoder } from '../part-format.ts';
import type { EncodedRow, OutputHead, OutputRow, OutputSchema } from '../sink.ts';
import type { StagedFile } from '../staged-file.ts';

/** `PGCOPY\n\xff\r\n\0`, no flags, no extension. */
const HEADER = Buffer.from([
  ...Buffer.from('PGCOPY\n'),
  ...[0xff, 0x0d, 0x0a, 0x00],
  ...[0, 0, 0, 0, 0, 0, 0, 0],
]);
const TRAILER = Buffer.from([0xff, 0xff]);

/** Ids of XLM-R's vocabulary, as BGE-M3 has them: the dimensions of a `sparsevec`. */
export const SPARSE_DIMENSIONS = 250_002;

/** Postgres' types for what a column holds. */
const SQL_TYPE: Readonly<Record<ColumnKind, string>> = {
  int64: 'bigint',
  double: 'double precision',
  boolean: 'boolean',
  string: 'text',
  json: 'jsonb',
};

/** A column of the table. */
export interface TableColumn {
  readonly name: string;
  readonly type: string;
}

/** The columns of a schema, in the order in which rows are written. */
export function tableColumns(schema: OutputSchema): readonly TableColumn[] {
  const ofSource = [schema.id, ...schema.carried];
  return [
    ...ofSource.map(({ name, kind }) => ({ name, type: SQL_TYPE[kind] })),
    ...ownColumns(schema),
  ];
}

/** Those that are not of the source. */
export function ownColumns({
  heads,
  dtype,
  dimension,
}: Pick<OutputSchema, 'heads' | 'dtype' | 'dimension'>): readonly TableColumn[] {
  const vector = `${dtype === 'float16' ? 'halfvec' : 'vector'}(${dimension})`;
  const ofHead: Readonly<Record<OutputHead, TableColumn>> = {
    dense: { name: 'embedding', type: vector },
    sparse: { name: 'sparse', type: `sparsevec(${SPARSE_DIMENSIONS})` },
    multi_vector: { name: 'multi_vector', type: `${vector}[]` },
  };
  return [
    { name: 'token_count', type: 'integer' },
    { name: 'truncated', type: 'boolean' },
    { name: 'error', type: 'text' },
    ...heads.map((head) => ofHead[head]),
  ];
}

/**
 * Rows as COPY takes them in binary, seven times as fast as INSERT. Everything is big-endian, and
 * `sparsevec` counts its dimensions from 0 here, where its text counts from 1.
 *
 * @param options.vectorOid the type of the elements of a multi-vector.
 */
export function createCopyEncoder(options: {
  file: StagedFile;
  schema: OutputSchema;
  vectorOid: number;
}): PartEncoder {
  const { file, schema, vectorOid } = options;
  const fieldCount = tableColumns(schema).length;
  let isBegun = false;
  const begin = async (): Promise<void> => {
    if (!isBegun) await file.append(HEADER);
    isBegun = true;
  };
  return {
    async write(rows) {
      await begin();
      for (const row of rows) await file.append(rowOf(row, { schema, vectorOid, fieldCount }));
    },
    async finish() {
      await begin();
      await file.append(TRAILER);
    },
  };
}

function rowOf(
  row: OutputRow,
  options: { schema: OutputSchema; vectorOid: number; fieldCount: number },
): Uint8Array {
  const { schema, vectorOid, fieldCount } = options;
  const { id, carried, encoded, error } = row;
  const fields: (Uint8Array | undefined)[] = [
    ...[schema.id, ...schema.carried].map(({ kind }, index) =>
      plainField(kind, index === 0 ? id : carried[index - 1]),
    ),
    encoded && integer(encoded.tokenCount),
    encoded && Uint8Array.of(encoded.truncated ? 1 : 0),
    error === undefined ? undefined : Buffer.from(error),
    ...schema.heads.map((head) => encoded && headField(head, encoded, { schema, vectorOid })),
  ];
  const bytes = fields.reduce((sum, field) => sum + 4 + (field?.byteLength ?? 0), 2);
  const buffer = Buffer.allocUnsafe(bytes);
  let at = buffer.writeInt16BE(fieldCount, 0);
  for (const field of fields) {
    at = buffer.writeInt32BE(field?.byteLength ?? -1, at);
    if (field === undefined) continue;
    buffer.set(field, at);
    at += field.byteLength;
  }
  return buffer;
}

function plainField(kind: ColumnKind, given: unknown): Uint8Array | undefined {
  const value = columnValue(kind, given);
  if (value === null) return undefined;
  if (kind === 'int64') {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigInt64BE(BigInt(value));
    return bytes;
  }
  if (kind === 'double') {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleBE(Number(value));
    return bytes;
  }
  if (kind === 'boolean') return Uint8Array.of(value === true ? 1 : 0);
  if (kind !== 'json') return Buffer.from(plainText(String(value)));
  return Buffer.concat([Uint8Array.of(1), Buffer.from(plainJsonb(String(value)))]);
}

/** Postgres has no text with a zero character; half a surrogate pair becomes U+FFFD in UTF-8. */
function plainText(text: string): string {
  return text.replaceAll('\0', '');
}

/** The same two, which JSON writes as escapes: `jsonb` would refuse the whole part for one. */
function plainJsonb(json: string): string {
  return json.replace(/\\(?:u0000|u(d[89a-f][0-9a-f]{2})|.)/g, (escaped, half?: string) => {
    if (escaped === '\\u0000') return '';
    return half === undefined ? escaped : '\uFFFD';
  });
}

function headField(
  head: OutputHead,
  encoded: EncodedRow,
  options: { schema: OutputSchema; vectorOid: number },
): Uint8Array | undefined {
  const { schema, vectorOid } = options;
  const { dtype, dimension } = schema;
  if (head === 'dense') return encoded.dense && vectorBytes(encoded.dense, dtype);
  if (head === 'sparse') return encoded.sparse && sparseBytes(encoded.sparse);
  const { multiVector } = encoded;
  if (multiVector === undefined) return undefined;
  const { tokenCount, data } = multiVector;
  // An array's bytes: dimensions, no nulls, the elements' type, then length and start of each.
  const parts = [integer(tokenCount === 0 ? 0 : 1), integer(0), integer(vectorOid)];
  if (tokenCount > 0) parts.push(integer(tokenCount), integer(1));
  for (let token = 0; token < tokenCount; token++) {
    const row = data.subarray(token * dimension, (token + 1) * dimension);
    const bytes = vectorBytes(row, dtype);
    parts.push(integer(bytes.byteLength), bytes);
  }
  return Buffer.concat(parts);
}

/** `vector` and `halfvec`: how many, nothing, the numbers. */
function vectorBytes(row: Float32Array, dtype: OutputSchema['dtype']): Uint8Array {
  const width = dtype === 'float16' ? 2 : 4;
  const numbers = dtype === 'float16' ? float16Of(row) : row;
  const bytes = Buffer.allocUnsafe(4 + row.length * width);
  bytes.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), 4);
  // The engine swaps faster than a loop of writes.
  if (width === 2) bytes.subarray(4).swap16();
  else bytes.subarray(4).swap32();
  bytes.writeInt16BE(row.length, 0);
  bytes.writeInt16BE(0, 2);
  return bytes;
}

/** `sparsevec`: dimensions, how many, nothing, ids, numbers. It refuses zeros. */
function sparseBytes(row: { indices: Int32Array; values: Float32Array }): Uint8Array {
  const kept = [...row.indices.keys()].filter((place) => row.values[place] !== 0);
  const bytes = Buffer.allocUnsafe(12 + kept.length * 8);
  bytes.writeInt32BE(SPARSE_DIMENSIONS, 0);
  bytes.writeInt32BE(kept.length, 4);
  bytes.writeInt32BE(0, 8);
  for (const [index, place] of kept.entries()) {
    bytes.writeInt32BE(row.indices[place] ?? 0, 12 + index * 4);
    bytes.writeFloatBE(row.values[place] ?? 0, 12 + (kept.length + index) * 4);
  }
  return bytes;
}

function integer(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeInt32BE(value);
  return bytes;
}
