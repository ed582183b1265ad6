import { ByteWriter } from '../../reply/encode-reply.ts';
import { float16Of } from '../../reply/row-bytes.ts';
import { columnValue, plainJson } from '../job/records.ts';
import type { PartFormat } from './part-format.ts';
import type { OutputRow, OutputSchema } from './sink.ts';

/** Bytes that are collected before they go to the file. */
const FLUSH_BYTES = 1 << 18;

/** JSON Lines: one object a text, numbers with the fewest digits that read back to the same. */
export const JSONL_FORMAT: PartFormat = {
  name: 'jsonl',
  endings: ['.jsonl'],
  open([file], schema) {
    const writer = new ByteWriter();
    let rowsBytes = 0;
    const flush = async (): Promise<void> => {
      rowsBytes = 0;
      await file?.append(writer.take());
    };
    return {
      async write(rows) {
        for (const row of rows) {
          writeRow(writer, row, schema);
          rowsBytes += (row.encoded?.dense?.length ?? 0) * 10 + 200;
          rowsBytes += (row.encoded?.multiVector?.data.length ?? 0) * 10;
          if (rowsBytes >= FLUSH_BYTES) await flush();
        }
      },
      finish: flush,
    };
  },
};

function writeRow(writer: ByteWriter, row: OutputRow, schema: OutputSchema): void {
  const { encoded, error } = row;
  const floats = (values: Float32Array): void =>
    writer.floats(schema.dtype === 'float16' ? new Float32Array(float16Of(values)) : values);
  writer.ascii('{');
  writeMetadata(writer, row, schema);
  if (error !== undefined) {
    writer.ascii(',"error":');
    writer.json(error);
  }
  if (encoded?.dense !== undefined) {
    writer.ascii(',"embedding":');
    floats(encoded.dense);
  }
  if (encoded?.sparse !== undefined) {
    writer.ascii(',"sparse":{"indices":');
    writer.ascii(`[${encoded.sparse.indices.join(',')}]`);
    writer.ascii(',"values":');
    floats(encoded.sparse.values);
    writer.ascii('}');
  }
  if (encoded?.multiVector !== undefined) {
    const { tokenCount, data } = encoded.multiVector;
    writer.ascii(',"multi_vector":[');
    for (let token = 0; token < tokenCount; token++) {
      if (token > 0) writer.ascii(',');
      floats(data.subarray(token * schema.dimension, (token + 1) * schema.dimension));
    }
    writer.ascii(']');
  }
  writer.ascii('}\n');
}

/**
 * The members of an object that say what a row is, vectors left out: id, carried columns, tokens,
 * whether it was cut.
 */
export function writeMetadata(
  writer: ByteWriter,
  { id, carried, encoded }: OutputRow,
  schema: OutputSchema,
): void {
  const columns = [schema.id, ...schema.carried];
  for (const [index, { name, kind }] of columns.entries()) {
    if (index > 0) writer.ascii(',');
    writer.json(name);
    writer.ascii(':');
    const value = index === 0 ? id : carried[index - 1];
    // JSON in a column is JSON here too, and not a string of it.
    if (kind === 'json') writer.jsonText(plainJson(value ?? null));
    else {
      const plain = columnValue(kind, value);
      if (typeof plain === 'bigint') writer.ascii(String(plain));
      else writer.json(plain);
    }
  }
  if (encoded === undefined) return;
  writer.ascii(`,"token_count":${encoded.tokenCount},"truncated":${encoded.truncated}`);
}
