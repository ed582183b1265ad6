import type { PartEncoder, PartFormat } from '../part-format.ts';
import type { OutputRow, OutputSchema } from '../sink.ts';
import type { StagedFile } from '../staged-file.ts';
import { arrowSchemaOf } from './arrow-schema.ts';
import { ColumnBuffer } from './column-buffer.ts';
import { columnsOf, type ParquetColumn, type Physical } from './columns.ts';
import { encodeThrift, type ThriftStruct } from './thrift.ts';

/**
 * A row group ends when its values have so many bytes: a reader holds one in memory, and so does
 * the writer.
 */
const GROUP_BYTES = 8 << 20;

const MAGIC = Uint8Array.from([0x50, 0x41, 0x52, 0x31]);

/** Numbers of the enum `Type`. */
const TYPE: Readonly<Record<Physical, number>> = {
  boolean: 0,
  int32: 1,
  int64: 2,
  float: 4,
  double: 5,
  text: 6,
  float16: 7,
};

const REQUIRED = 0;
const OPTIONAL = 1;
const REPEATED = 2;
const CONVERTED_UTF8 = 0;
const CONVERTED_LIST = 3;
/** Members of the union `LogicalType`. */
const LOGICAL = { string: 1, list: 3, json: 12, float16: 15 } as const;
const PLAIN = 0;
const RLE = 3;

/**
 * Parquet, plain pages, nothing compressed: of random floats nothing could be saved but a tenth,
 * and this way writing costs little more than copying.
 *
 * It is ours because the libraries are what a job would wait for: measured in `docs`.
 */
export const PARQUET_FORMAT: PartFormat = {
  name: 'parquet',
  endings: ['.parquet'],
  open: ([file], schema) => new ParquetEncoder(file as StagedFile, schema),
};

class ParquetEncoder implements PartEncoder {
  readonly #file: StagedFile;
  readonly #columns: readonly ParquetColumn[];
  readonly #groups: ThriftStruct[] = [];
  readonly #buffers: readonly ColumnBuffer[];
  #groupRows = 0;
  #rowCount = 0;
  #isBegun = false;

  constructor(file: StagedFile, schema: OutputSchema) {
    this.#file = file;
    this.#columns = columnsOf(schema);
    this.#buffers = this.#columns.map((column) => new ColumnBuffer(column));
  }

  async write(rows: readonly OutputRow[]): Promise<void> {
    for (const row of rows) {
      let bytes = 0;
      for (const buffer of this.#buffers) {
        buffer.add(buffer.column.valueOf(row));
        bytes += buffer.bytes;
      }
      this.#groupRows++;
      if (bytes >= GROUP_BYTES) await this.#endGroup();
    }
  }

  async finish(): Promise<void> {
    if (this.#groupRows > 0) await this.#endGroup();
    await this.#magic();
    const footer = encodeThrift({
      1: { i32: 2 },
      2: { list: schemaOf(this.#columns).map((struct) => ({ struct })) },
      3: { i64: this.#rowCount },
      4: { list: this.#groups.map((struct) => ({ struct })) },
      5: {
        list: [
          { struct: { 1: { text: 'ARROW:schema' }, 2: { text: arrowSchemaOf(this.#columns) } } },
        ],
      },
      6: { text: 'bge-m3-encoder' },
    });
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, footer.length, true);
    await this.#file.append(footer, length, MAGIC);
    // Taken from the end: each column gets the room that it had before.
    for (const buffer of this.#buffers.toReversed()) buffer.release();
  }

  async #magic(): Promise<void> {
    if (!this.#isBegun) await this.#file.append(MAGIC);
    this.#isBegun = true;
  }

  async #endGroup(): Promise<void> {
    await this.#magic();
    const chunks: ThriftStruct[] = [];
    let groupBytes = 0;
    for (const buffer of this.#buffers) {
      const start = this.#file.length;
      const page = buffer.page();
      const pageBytes = page.reduce((sum, piece) => sum + piece.byteLength, 0);
      await this.#file.append(pageHeader(buffer.levelCount, pageBytes), ...page);
      const bytes = this.#file.length - start;
      groupBytes += bytes;
      chunks.push(columnChunk({ buffer, start, bytes }));
    }
    this.#groups.push({
      1: { list: chunks.map((struct) => ({ struct })) },
      2: { i64: groupBytes },
      3: { i64: this.#groupRows },
    });
    this.#rowCount += this.#groupRows;
    this.#groupRows = 0;
    for (const buffer of this.#buffers) buffer.clear();
  }
}

function pageHeader(valueCount: number, bytes: number): Uint8Array {
  return encodeThrift({
    1: { i32: 0 },
    2: { i32: bytes },
    3: { i32: bytes },
    5: {
      struct: {
        1: { i32: valueCount },
        2: { i32: PLAIN },
        3: { i32: RLE },
        4: { i32: RLE },
      },
    },
  });
}

function columnChunk(chunk: { buffer: ColumnBuffer; start: number; bytes: number }): ThriftStruct {
  const { buffer, start, bytes } = chunk;
  const { column } = buffer;
  const metadata: ThriftStruct = {
    1: { i32: TYPE[column.physical] },
    2: { list: [{ i32: PLAIN }, { i32: RLE }] },
    3: { list: pathOf(column).map((text) => ({ text })) },
    4: { i32: 0 },
    5: { i64: buffer.levelCount },
    6: { i64: bytes },
    7: { i64: bytes },
    9: { i64: start },
  };
  return { 2: { i64: start }, 3: { struct: metadata } };
}

function pathOf({ name, depth }: ParquetColumn): string[] {
  return [name, ...Array.from({ length: depth }, () => ['list', 'element']).flat()];
}

/** The tree of the schema, flattened from its root. */
function schemaOf(columns: readonly ParquetColumn[]): ThriftStruct[] {
  const root: ThriftStruct = { 4: { text: 'schema' }, 5: { i32: columns.length } };
  return [root, ...columns.flatMap(elementsOf)];
}

function elementsOf(column: ParquetColumn): ThriftStruct[] {
  const { name, depth } = column;
  const elements: ThriftStruct[] = [];
  for (let level = 0; level < depth; level++) {
    elements.push(
      {
        3: { i32: level === 0 ? OPTIONAL : REQUIRED },
        4: { text: level === 0 ? name : 'element' },
        5: { i32: 1 },
        6: { i32: CONVERTED_LIST },
        10: { struct: { [LOGICAL.list]: { struct: {} } } },
      },
      { 3: { i32: REPEATED }, 4: { text: 'list' }, 5: { i32: 1 } },
    );
  }
  return [...elements, leafOf(column)];
}

function leafOf({ name, physical, depth, isJson }: ParquetColumn): ThriftStruct {
  const logical =
    physical === 'float16' ? LOGICAL.float16 : isJson === true ? LOGICAL.json : LOGICAL.string;
  const isAnnotated = physical === 'text' || physical === 'float16';
  return {
    1: { i32: TYPE[physical] },
    2: physical === 'float16' ? { i32: 2 } : undefined,
    // Values inside a list are always there, and need no level of their own.
    3: { i32: depth === 0 ? OPTIONAL : REQUIRED },
    4: { text: depth === 0 ? name : 'element' },
    6: physical === 'text' && isJson !== true ? { i32: CONVERTED_UTF8 } : undefined,
    10: isAnnotated ? { struct: { [logical]: { struct: {} } } } : undefined,
  };
}
