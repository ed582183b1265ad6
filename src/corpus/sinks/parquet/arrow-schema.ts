import { Builder } from 'flatbuffers';
import type { ParquetColumn, Physical } from './columns.ts';

/**
 * The schema as Arrow's own readers know it, in base64: with it pyarrow and polars read vectors as
 * arrays of one length, where Parquet alone knows only lists. An encapsulated message of Arrow's
 * IPC format (`Message.fbs`, `Schema.fbs`), whose field numbers stand here as slots.
 */
export function arrowSchemaOf(columns: readonly ParquetColumn[]): string {
  const builder = new Builder(1024);
  const fields = columns.map((column) => fieldOf(builder, column));
  const vector = offsets(builder, fields);
  builder.startObject(4);
  builder.addFieldInt16(0, LITTLE_ENDIAN, 0);
  builder.addFieldOffset(1, vector, 0);
  const schema = builder.endObject();
  builder.startObject(5);
  builder.addFieldInt16(0, METADATA_V5, 0);
  builder.addFieldInt8(1, HEADER_SCHEMA, 0);
  builder.addFieldOffset(2, schema, 0);
  builder.addFieldInt64(3, 0n, 0n);
  builder.finish(builder.endObject());
  const message = builder.asUint8Array();
  const padded = Math.ceil(message.length / 8) * 8;
  const bytes = Buffer.alloc(8 + padded);
  bytes.writeUInt32LE(0xffffffff, 0);
  bytes.writeUInt32LE(padded, 4);
  bytes.set(message, 8);
  return bytes.toString('base64');
}

const LITTLE_ENDIAN = 0;
const METADATA_V5 = 4;
const HEADER_SCHEMA = 1;

/** Members of the union `Type`. */
const TYPE = { int: 2, float: 3, utf8: 5, bool: 6, list: 12, fixedSizeList: 16 } as const;

const PRECISION = { float16: 0, float: 1, double: 2 } as const;

function fieldOf(builder: Builder, column: ParquetColumn): number {
  const { name, physical, depth, fixedLength } = column;
  let field = leaf(builder, depth === 0 ? name : ELEMENT, physical);
  for (let level = depth; level > 0; level--) {
    const isInnermost = level === depth;
    const length = isInnermost ? fixedLength : undefined;
    field = listOf(builder, { name: level === 1 ? name : ELEMENT, child: field, length });
  }
  return field;
}

/** What Parquet calls the values of a list. */
const ELEMENT = 'element';

function leaf(builder: Builder, name: string, physical: Physical): number {
  if (physical === 'text') return field(builder, { name, type: TYPE.utf8, table: empty(builder) });
  if (physical === 'boolean') {
    return field(builder, { name, type: TYPE.bool, table: empty(builder) });
  }
  if (physical === 'int32' || physical === 'int64') {
    builder.startObject(2);
    builder.addFieldInt32(0, physical === 'int32' ? 32 : 64, 0);
    builder.addFieldInt8(1, 1, 0);
    return field(builder, { name, type: TYPE.int, table: builder.endObject() });
  }
  builder.startObject(1);
  builder.addFieldInt16(0, PRECISION[physical], 0);
  return field(builder, { name, type: TYPE.float, table: builder.endObject() });
}

function listOf(
  builder: Builder,
  list: { name: string; child: number; length: number | undefined },
): number {
  const { name, child, length } = list;
  const children = offsets(builder, [child]);
  if (length === undefined) {
    return field(builder, { name, type: TYPE.list, table: empty(builder), children });
  }
  builder.startObject(1);
  builder.addFieldInt32(0, length, 0);
  return field(builder, { name, type: TYPE.fixedSizeList, table: builder.endObject(), children });
}

function empty(builder: Builder): number {
  builder.startObject(0);
  return builder.endObject();
}

function field(
  builder: Builder,
  given: { name: string; type: number; table: number; children?: number },
): number {
  const name = builder.createString(given.name);
  const children = given.children ?? offsets(builder, []);
  builder.startObject(7);
  builder.addFieldOffset(0, name, 0);
  builder.addFieldInt8(1, given.name === ELEMENT ? 0 : 1, 0);
  builder.addFieldInt8(2, given.type, 0);
  builder.addFieldOffset(3, given.table, 0);
  builder.addFieldOffset(5, children, 0);
  return builder.endObject();
}

function offsets(builder: Builder, items: readonly number[]): number {
  builder.startVector(4, items.length, 4);
  for (const item of items.toReversed()) builder.addOffset(item);
  return builder.endVector();
}
