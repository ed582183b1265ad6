import { MsgpackWriter } from './msgpack-writer.ts';
import type { EncodedReply, EncodeReply, MultiVector, SparseRow } from './reply-content.ts';
import type { ReplyDtype } from './reply-format.ts';
import { blockOf, type NumberBlock } from './row-bytes.ts';

/** How an array of numbers looks inside the msgpack. */
export interface MsgpackShape {
  /**
   * `plain`: a map with string keys, `{dtype, shape, data}`. `numpy`: the map that Python's
   * `msgpack-numpy` turns into an ndarray, `{nd: true, type, kind, shape, data}`, whose keys are
   * *bin*: with string keys it leaves the map as it is.
   */
  readonly layout: 'plain' | 'numpy';
  readonly dtype: ReplyDtype;
}

/** Room for a usual reply's frame. One is enough: a reply is written before the next begins. */
const FRAME = new Uint8Array(4096);

/**
 * `/encode`'s reply as msgpack: the keys of the JSON reply, as strings, and each matrix as one
 * binary block. A float16 reply has its dense and multi-vector blocks in float16; sparse weights
 * stay float32.
 */
export function encodeMsgpackReply(reply: EncodeReply, shape: MsgpackShape): EncodedReply {
  const writer = new MsgpackWriter(FRAME);
  const { rows, sparse, multiVectors } = reply;
  const optional = [rows, sparse, multiVectors].filter((head) => head !== undefined).length;
  writer.mapHeader(4 + optional);
  if (rows !== undefined) {
    writer.text(reply.single ? 'embedding' : 'embeddings');
    const lengths = reply.single ? [reply.dimension] : [rows.length, reply.dimension];
    writeArray(writer, shape, { lengths, block: blockOf(rows, shape.dtype) });
  }
  writeFacts(writer, reply);
  if (sparse !== undefined) {
    writer.text('sparse');
    writeEach(writer, reply, sparse, (row) => writeSparse(writer, shape, row));
  }
  if (multiVectors !== undefined) {
    writer.text('multi_vector');
    writeEach(writer, reply, multiVectors, (vectors) =>
      writeMultiVector(writer, shape, { vectors, dimension: reply.dimension }),
    );
  }
  return { body: writer.take(), contentType: 'application/msgpack' };
}

function writeFacts(writer: MsgpackWriter, reply: EncodeReply): void {
  writer.text('model');
  writer.text(reply.model);
  writer.text('dim');
  writer.unsigned(reply.dimension);
  writer.text('tokens');
  writeEach(writer, reply, reply.tokenCounts, (count) => writer.unsigned(count));
  writer.text('truncated');
  writeEach(writer, reply, reply.truncated, (flag) => writer.boolean(flag));
}

/** The only element, or all of them as an array. */
function writeEach<Item>(
  writer: MsgpackWriter,
  { single }: EncodeReply,
  items: readonly Item[],
  write: (item: Item) => void,
): void {
  if (!single) writer.arrayHeader(items.length);
  for (const item of items) write(item);
}

function writeSparse(
  writer: MsgpackWriter,
  shape: MsgpackShape,
  { indices, values, tokens }: SparseRow,
): void {
  const lengths = [indices.length];
  writer.mapHeader(tokens === undefined ? 2 : 3);
  writer.text('indices');
  writeArray(writer, shape, { lengths, block: { arrays: [indices], asFloat16: false } });
  writer.text('values');
  writeArray(writer, shape, { lengths, block: { arrays: [values], asFloat16: false } });
  if (tokens === undefined) return;
  writer.text('tokens');
  writer.arrayHeader(tokens.length);
  for (const token of tokens) writer.text(token);
}

function writeMultiVector(
  writer: MsgpackWriter,
  shape: MsgpackShape,
  { vectors, dimension }: { vectors: MultiVector; dimension: number },
): void {
  writeArray(writer, shape, {
    lengths: [vectors.tokenCount, dimension],
    block: blockOf([vectors.data], shape.dtype),
  });
}

interface NumberArray {
  /** The length of each axis. */
  readonly lengths: readonly number[];
  readonly block: NumberBlock;
}

function writeArray(writer: MsgpackWriter, { layout }: MsgpackShape, array: NumberArray): void {
  if (layout === 'plain') {
    writer.mapHeader(3);
    writer.text('dtype');
    writer.text(dtypeOf(array.block));
    writer.text('shape');
    writeLengths(writer, array.lengths);
    writer.text('data');
  } else {
    writer.mapHeader(5);
    writer.binaryText('nd');
    writer.boolean(true);
    writer.binaryText('type');
    writer.text(dtypeOf(array.block));
    writer.binaryText('kind');
    writer.binaryText('');
    writer.binaryText('shape');
    writeLengths(writer, array.lengths);
    writer.binaryText('data');
  }
  writer.block(array.block);
}

function writeLengths(writer: MsgpackWriter, lengths: readonly number[]): void {
  writer.arrayHeader(lengths.length);
  for (const length of lengths) writer.unsigned(length);
}

/** The type as numpy spells it; `<` is little-endian. */
function dtypeOf({ arrays, asFloat16 }: NumberBlock): string {
  if (asFloat16) return '<f2';
  return arrays[0] instanceof Int32Array ? '<i4' : '<f4';
}
