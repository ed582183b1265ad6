import { type ByteWriter, writeJson } from './byte-writer.ts';
import { FLOAT32_JSON_BYTES_MAX } from './float32-json.ts';
import type { EncodedReply, EncodeReply, MultiVector, SparseRow } from './reply-content.ts';

/** Beside its numbers a reply has its keys, and for each text a count and a flag. */
const BYTES_BESIDE_ROWS = 256;
const BYTES_PER_TEXT = 32;

type Encoding = 'float' | 'base64';

/**
 * `/encode`'s reply as JSON.
 *
 * @param encoding `base64` sends each vector as a string: little-endian float32; a multi-vector as
 * one string, row after row.
 */
export function encodeJsonReply(reply: EncodeReply, encoding: Encoding): EncodedReply {
  const body = writeJson((writer) => {
    writer.reserve(bytesMaxOf(reply));
    writer.ascii('{');
    if (reply.rows !== undefined) {
      writer.ascii(reply.single ? '"embedding":' : '"embeddings":');
      writeEach(writer, reply, reply.rows, (row) => writeVector(writer, row, encoding));
      writer.ascii(',');
    }
    writeFacts(writer, reply);
    if (reply.sparse !== undefined) {
      writer.ascii(',"sparse":');
      writeEach(writer, reply, reply.sparse, (row) => writeSparse(writer, row));
    }
    if (reply.multiVectors !== undefined) {
      writer.ascii(',"multi_vector":');
      writeEach(writer, reply, reply.multiVectors, (vectors) =>
        writeMultiVector(writer, vectors, encoding),
      );
    }
    writer.ascii('}');
  });
  return { body, contentType: 'application/json' };
}

function writeFacts(writer: ByteWriter, reply: EncodeReply): void {
  writer.ascii('"model":');
  writer.json(reply.model);
  const tokens = reply.single ? reply.tokenCounts[0] : `[${reply.tokenCounts.join(',')}]`;
  const truncated = reply.single ? reply.truncated[0] : `[${reply.truncated.join(',')}]`;
  writer.ascii(`,"dim":${reply.dimension},"tokens":${tokens},"truncated":${truncated}`);
}

/** The only element, or all of them in brackets. */
function writeEach<Item>(
  writer: ByteWriter,
  { single }: EncodeReply,
  items: readonly Item[],
  write: (item: Item) => void,
): void {
  if (!single) writer.ascii('[');
  let first = true;
  for (const item of items) {
    if (!first) writer.ascii(',');
    first = false;
    write(item);
  }
  if (!single) writer.ascii(']');
}

function writeVector(writer: ByteWriter, row: Float32Array, encoding: Encoding): void {
  if (encoding === 'base64') writer.base64(row);
  else writer.floats(row);
}

function writeSparse(writer: ByteWriter, { indices, values, tokens }: SparseRow): void {
  writer.ascii(`{"indices":[${indices.join(',')}],"values":`);
  writer.floats(values);
  if (tokens !== undefined) {
    writer.ascii(',"tokens":');
    writer.json(tokens);
  }
  writer.ascii('}');
}

function writeMultiVector(writer: ByteWriter, vectors: MultiVector, encoding: Encoding): void {
  if (encoding === 'base64') {
    writer.base64(vectors.data);
    return;
  }
  const dimension = vectors.data.length / vectors.tokenCount;
  writer.ascii('[');
  for (let token = 0; token < vectors.tokenCount; token++) {
    if (token > 0) writer.ascii(',');
    writer.floats(vectors.data.subarray(token * dimension, (token + 1) * dimension));
  }
  writer.ascii(']');
}

function bytesMaxOf({ rows = [], multiVectors = [], tokenCounts, dimension }: EncodeReply): number {
  const tokens = multiVectors.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
  return (
    (rows.length + tokens) * (dimension * FLOAT32_JSON_BYTES_MAX + 3) +
    tokenCounts.length * BYTES_PER_TEXT +
    BYTES_BESIDE_ROWS
  );
}
