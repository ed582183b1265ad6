import { invariant } from '../base/errors.ts';
import type {
  EncodedReply,
  EncodeReply,
  HalfVector,
  MultiVector,
  ReplyDtype,
  SparseRow,
} from './reply-content.ts';
import { lendReplyBytes } from './reply-memory.ts';
import {
  blockOf,
  bytesOfBlock,
  copyBlock,
  type NumberArray,
  type NumberBlock,
  numpyTypeOf,
} from './row-bytes.ts';

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

/** Room for a usual reply's frame. All replies share it: each is written before the next begins. */
const FRAME = new Uint8Array(4096);

/**
 * `/encode`'s reply as msgpack: the keys of the JSON reply, as strings, and each matrix as one
 * binary block. A float16 reply has its dense and multi-vector blocks in float16; sparse weights
 * stay float32. Integer and binary types are for dense rows alone.
 */
export function encodeMsgpackReply(reply: EncodeReply, shape: MsgpackShape): EncodedReply {
  const writer = new MsgpackWriter(FRAME);
  const { rows, sparse, empty, multiVectors = reply.halfVectors } = reply;
  const optional = [rows, sparse, multiVectors, empty].filter((part) => part !== undefined).length;
  writer.mapHeader(4 + optional);
  if (rows !== undefined) {
    writer.text(reply.single ? 'embedding' : 'embeddings');
    const block = blockOf(rows, shape.dtype);
    const [{ length }] = block.arrays;
    writeArray(writer, shape, { lengths: reply.single ? [length] : [rows.length, length], block });
  }
  writeFacts(writer, reply);
  if (sparse !== undefined) {
    writer.text('sparse');
    writeEach(writer, reply, sparse, (row) => writeSparse(writer, shape, row));
  }
  if (multiVectors !== undefined) {
    writer.text('multi_vector');
    writeEach<MultiVector | HalfVector>(writer, reply, multiVectors, (vectors) =>
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
  if (reply.empty === undefined) return;
  writer.text('empty');
  writeEach(writer, reply, reply.empty, (flag) => writer.boolean(flag));
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
  { vectors, dimension }: { vectors: MultiVector | HalfVector; dimension: number },
): void {
  const { tokenCount, data } = vectors;
  const dtype = shape.dtype === 'float16' ? 'float16' : 'float32';
  const { roomBytes = 0 } = vectors as HalfVector;
  const areHalves = data instanceof Float16Array;
  const block = areHalves
    ? { arrays: [data], asFloat16: false, roomBytes }
    : blockOf([data], dtype);
  writeArray(writer, shape, { lengths: [tokenCount, dimension], block });
}

interface ShapedBlock {
  /** The length of each axis. */
  readonly lengths: readonly number[];
  readonly block: NumberBlock;
}

function writeArray(writer: MsgpackWriter, { layout }: MsgpackShape, array: ShapedBlock): void {
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

function dtypeOf({ arrays, asFloat16 }: NumberBlock): string {
  return asFloat16 ? '<f2' : numpyTypeOf(arrays[0]);
}

/**
 * An array in the layout `numpy`, for a reply that msgpackr packs: a map, since an object's keys
 * would be strings. The numbers are borrowed until then.
 */
export function numpyArray(
  values: NumberArray,
  shape: readonly number[],
): ReadonlyMap<Uint8Array, unknown> {
  const key = (name: string): Uint8Array => encoder.encode(name);
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return new Map<Uint8Array, unknown>([
    [key('nd'), true],
    [key('type'), numpyTypeOf(values)],
    [key('kind'), key('')],
    [key('shape'), shape],
    [key('data'), data],
  ]);
}

/**
 * The longest binary of msgpack, 2^32 - 1 bytes. The limit of texts a request keeps replies far
 * below it.
 */
const BINARY_BYTES_MAX = 2 ** 32 - 1;

/** Longest part of a frame that is copied byte by byte. */
const LOOP_BYTES_MAX = 128;

const encoder = new TextEncoder();

/**
 * Writes a msgpack document (https://github.com/msgpack/msgpack/blob/master/spec.md). The frame,
 * which is everything but the blocks, is gathered in a small buffer. Then the size is known, and
 * each block is copied once, to its place in a document of exactly that size.
 */
export class MsgpackWriter {
  #frame: Uint8Array;
  #length = 0;
  /** Blocks, and after how many bytes of the frame each of them stands. */
  readonly #blocks: { readonly block: NumberBlock; readonly after: number }[] = [];
  #blockBytes = 0;

  /**
   * @param frame buffer for the frame; borrowed. A larger one is made when it is too small.
   */
  constructor(frame: Uint8Array) {
    this.#frame = frame;
  }

  mapHeader(count: number): void {
    invariant(count < 16, 'A reply has no map of 16 members.');
    this.#put(0x80 | count, 0, 0);
  }

  arrayHeader(count: number): void {
    if (count < 16) this.#put(0x90 | count, 0, 0);
    else if (count < 0x10000) this.#put(0xdc, 2, count);
    else this.#put(0xdd, 4, count);
  }

  /** An integer from 0 to 2^32 - 1. */
  unsigned(value: number): void {
    invariant(value >>> 0 === value, 'A count must be an unsigned integer of 32 bits.');
    if (value < 0x80) this.#put(value, 0, 0);
    else if (value < 0x100) this.#put(0xcc, 1, value);
    else if (value < 0x10000) this.#put(0xcd, 2, value);
    else this.#put(0xce, 4, value);
  }

  boolean(value: boolean): void {
    this.#put(value ? 0xc3 : 0xc2, 0, 0);
  }

  /** A string. */
  text(value: string): void {
    if (value.length < 32 && this.#putShortAscii(0xa0 | value.length, value)) return;
    const bytes = encoder.encode(value);
    if (bytes.length < 32) this.#put(0xa0 | bytes.length, 0, 0);
    else if (bytes.length < 0x100) this.#put(0xd9, 1, bytes.length);
    else this.#put(0xda, 2, bytes.length);
    invariant(bytes.length < 0x10000, 'A reply has no string of 64 kB.');
    this.#append(bytes);
  }

  /** A short text as binary. */
  binaryText(value: string): void {
    this.#put(0xc4, 0, 0);
    const isKey = value.length < 0x80 && this.#putShortAscii(value.length, value);
    invariant(isKey, 'A binary text is a key: short, and ASCII.');
  }

  /** Numbers as binary. Their arrays are borrowed until `take`. */
  block(block: NumberBlock): void {
    const bytes = bytesOfBlock(block);
    invariant(bytes <= BINARY_BYTES_MAX, 'A block must have a length of 32 bits.');
    if (bytes < 0x100) this.#put(0xc4, 1, bytes);
    else if (bytes < 0x10000) this.#put(0xc5, 2, bytes);
    else this.#put(0xc6, 4, bytes);
    this.#blocks.push({ block, after: this.#length });
    this.#blockBytes += bytes;
  }

  /**
   * The document; lent as `lendReplyBytes` says, or as long as the memory of its last block, which it
   * may be written around. The writer is spent.
   */
  take(): Uint8Array<ArrayBuffer> {
    const bytes = this.#length + this.#blockBytes;
    const around = this.#aroundLast(bytes);
    const document = around ?? lendReplyBytes(bytes, this.#blocks[0]?.after ?? 0);
    let offset = 0;
    let framed = 0;
    for (const { block, after } of this.#blocks) {
      this.#copyFrame(framed, after, document, offset);
      offset += after - framed;
      const isThere = around !== undefined && after === this.#length;
      offset = isThere ? offset + bytesOfBlock(block) : copyBlock(document, offset, block);
      framed = after;
    }
    this.#copyFrame(framed, this.#length, document, offset);
    invariant(
      offset + this.#length - framed === document.length,
      'A document must be as long as its parts.',
    );
    return document;
  }

  /** The memory of the last block with the room in front of it, where that holds all the rest. */
  #aroundLast(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    const last = this.#blocks.at(-1);
    if (last === undefined || last.after !== this.#length) return undefined;
    const { arrays, roomBytes = 0 } = last.block;
    const [{ buffer, byteOffset, byteLength }] = arrays;
    const before = bytes - byteLength;
    if (arrays.length !== 1 || before > roomBytes) return undefined;
    return new Uint8Array(buffer as ArrayBuffer, byteOffset - before, bytes);
  }

  /** Two blocks are some dozen bytes apart: a view of those costs more than this loop. */
  #copyFrame(from: number, to: number, document: Uint8Array, offset: number): void {
    if (to - from > LOOP_BYTES_MAX) document.set(this.#frame.subarray(from, to), offset);
    else for (let at = from; at < to; at++) document[offset + at - from] = this.#frame[at];
  }

  /** A first byte, then `value` in `width` bytes, big-endian. */
  #put(first: number, width: number, value: number): void {
    this.#reserve(1 + width);
    this.#frame[this.#length++] = first;
    for (let shift = (width - 1) * 8; shift >= 0; shift -= 8) {
      this.#frame[this.#length++] = (value >>> shift) & 0xff;
    }
  }

  /**
   * A first byte, then a text in ASCII. @returns false, and writes nothing, when it is not ASCII.
   * Nearly all texts are keys, for which a call of the encoder costs more than this loop.
   */
  #putShortAscii(first: number, text: string): boolean {
    this.#reserve(1 + text.length);
    for (let index = 0; index < text.length; index++) {
      const code = text.charCodeAt(index);
      if (code >= 0x80) return false;
      this.#frame[this.#length + 1 + index] = code;
    }
    this.#frame[this.#length] = first;
    this.#length += 1 + text.length;
    return true;
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#frame.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#frame.length) return;
    const grown = new Uint8Array(Math.max(this.#frame.length * 2, this.#length + bytes));
    grown.set(this.#frame);
    this.#frame = grown;
  }
}
