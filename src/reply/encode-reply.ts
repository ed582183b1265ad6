import { invariant, ServerError } from '../base/errors.ts';
import { encodeMsgpackReply } from './encode-msgpack.ts';
import { FLOAT32_JSON_BYTES_MAX, writeFloat32Json } from './float32-json.ts';
import type {
  EncodedReply,
  EncodeReply,
  MultiVector,
  ReplyDtype,
  ReplyFormat,
  SparseRow,
} from './reply-content.ts';
import {
  FIRST_BYTES,
  isStreamed,
  KEPT_BYTES_MAX,
  lendReplyBytes,
  ownReplyMemory,
  takeReplyMemory,
} from './reply-memory.ts';
import { base64OfRow, blockOf, bytesOfBlock, copyBlock } from './row-bytes.ts';

/**
 * Turns a reply to bytes. Checks that the parts fit one another, as the last stage before the
 * socket.
 *
 * @param reply borrowed until this returns.
 * @returns a body that is lent as `EncodedReply` says.
 * @throws ServerError `EMB_ACCEPT_UNSUPPORTED` when the format cannot carry a head;
 * `checkFormatCarries` says so earlier.
 */
export function encodeReply(reply: EncodeReply, format: ReplyFormat): EncodedReply {
  checkReply(reply);
  checkFormatCarries(format, {
    dense: reply.rows !== undefined,
    sparse: reply.sparse !== undefined,
    multiVectors: reply.multiVectors !== undefined,
  });
  switch (format.kind) {
    case 'json':
      return encodeJsonReply(reply, format.encoding);
    case 'msgpack':
      return encodeMsgpackReply(filled(reply), format);
    case 'raw':
      return encodeRawReply(filled(reply), format.dtype);
  }
}

/** A block has a row for each text: where there is none, zeros, which no row of unit norm is. */
function filled(reply: EncodeReply): EncodeReply {
  const { rows, empty, dimension } = reply;
  if (empty === undefined || rows === undefined) return reply;
  const zeros = new Float32Array(dimension);
  return { ...reply, rows: rows.map((row) => (row.length === 0 ? zeros : row)) };
}

/**
 * Raw bytes carry the dense rows and nothing else. Called before the work, so that nothing is
 * computed that cannot be sent.
 *
 * @throws ServerError `EMB_ACCEPT_UNSUPPORTED`.
 */
export function checkFormatCarries(
  format: ReplyFormat,
  heads: { readonly dense: boolean; readonly sparse: boolean; readonly multiVectors: boolean },
): void {
  if (format.kind !== 'raw') return;
  if (heads.dense && !heads.sparse && !heads.multiVectors) return;
  throw new ServerError(
    'EMB_ACCEPT_UNSUPPORTED',
    'accept: application/octet-stream carries dense vectors only; for other heads accept ' +
      'application/msgpack or application/json.',
    { field: 'accept', value: 'application/octet-stream' },
  );
}

/**
 * The last place where a row that went to the wrong text shows, as a count or length that does not
 * fit.
 */
function checkReply(reply: EncodeReply): void {
  const { rows, tokenCounts, truncated, sparse, dimension } = reply;
  const multiVectors = reply.multiVectors ?? reply.halfVectors;
  const textCount = tokenCounts.length;
  invariant(!reply.single || textCount === 1, 'A single reply is about one text.');
  invariant(truncated.length === textCount, 'Each text has a truncated flag.');
  if (rows !== undefined) {
    invariant(rows.length === textCount, 'Each text has a row.');
    for (let index = 0; index < rows.length; index++) {
      const { length } = rows[index];
      const isRight = length === dimension || (length === 0 && reply.empty?.[index] === true);
      invariant(isRight, 'A row is as long as the dimension.');
    }
  }
  if (sparse !== undefined) {
    invariant(sparse.length === textCount, 'Each text has its sparse weights.');
    for (const { indices, values, tokens } of sparse) {
      invariant(indices.length === values.length, 'Each sparse index has a weight.');
      const isNamed = tokens === undefined || tokens.length === indices.length;
      invariant(isNamed, 'Each sparse index has its piece.');
    }
  }
  if (multiVectors !== undefined) {
    invariant(multiVectors.length === textCount, 'Each text has its multi-vector.');
    for (const { tokenCount, data } of multiVectors) {
      invariant(data.length === tokenCount * dimension, 'A multi-vector has a row for each token.');
    }
  }
}

/**
 * Headers list counts and flags for up to this many texts. A count of at most 8,192 tokens takes 5
 * bytes with its comma, and 512 × 5 = 2.5 kB. Node's clients take 16 kB for all headers.
 */
const LISTED_TEXTS_MAX = 512;

/**
 * The dense rows alone, little-endian, row after row; what describes them is in headers:
 * `x-embedding-shape: texts,dimension`, `x-embedding-dtype`, `x-model`, and, for up to 512 texts,
 * `x-tokens: 7,12` and `x-truncated: 0,1` with one element a text, and `x-empty` where a text is.
 * For more texts the lists are left out, never cut.
 */
export function encodeRawReply(reply: EncodeReply, dtype: ReplyDtype): EncodedReply {
  invariant(reply.rows !== undefined, 'A raw reply needs dense rows.');
  const block = blockOf(reply.rows, dtype);
  const body = lendReplyBytes(bytesOfBlock(block), 0);
  copyBlock(body, 0, block);
  const headers: Record<string, string> = {
    'x-embedding-shape': `${reply.rows.length},${block.arrays[0].length}`,
    'x-embedding-dtype': dtype,
    'x-model': headerTextOf(reply.model),
  };
  if (reply.rows.length <= LISTED_TEXTS_MAX) {
    headers['x-tokens'] = reply.tokenCounts.join(',');
    headers['x-truncated'] = listed(reply.truncated);
    if (reply.empty !== undefined) headers['x-empty'] = listed(reply.empty);
  }
  return { body, contentType: 'application/octet-stream', headers };
}

function listed(flags: readonly boolean[]): string {
  return flags.map((flag) => (flag ? '1' : '0')).join(',');
}

/**
 * A header carries printable ASCII only; anything else in a model's name is percent-encoded, as is
 * `%` itself.
 */
function headerTextOf(text: string): string {
  return text.replace(/[^ -$&-~]+/gu, (part) => encodeURIComponent(part.toWellFormed()));
}

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
      writeEach(writer, reply, reply.rows, (row) => writer.row(row, encoding));
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
  if (reply.empty === undefined) return;
  writer.ascii(`,"empty":${reply.single ? reply.empty[0] : `[${reply.empty.join(',')}]`}`);
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

/** Longest text that is written byte by byte. Above it the engine's encoder is faster. */
const SHORT_CHARS_MAX = 32;

const NO_ASCII = 'JSON source that is written as ASCII must be ASCII.';

const encoder = new TextEncoder();

/**
 * Writes JSON as bytes. Parts follow one another without anything in between: the caller writes the
 * commas.
 */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  /** @param memory to write to; the writer's own from now on. It takes more where that is full. */
  constructor(memory = new ArrayBuffer(FIRST_BYTES)) {
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
  }

  /** Makes room, once, for a reply whose size is known beforehand. */
  reserve(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }

  /** JSON source that is ready: punctuation, keys. ASCII only. */
  ascii(source: string): void {
    this.reserve(source.length);
    if (source.length > SHORT_CHARS_MAX) {
      const { written } = encoder.encodeInto(source, this.#bytes.subarray(this.#length));
      invariant(written === source.length, NO_ASCII);
    } else {
      let all = 0;
      for (let index = 0; index < source.length; index++) {
        const code = source.charCodeAt(index);
        this.#bytes[this.#length + index] = code;
        all |= code;
      }
      invariant(all < 0x80, NO_ASCII);
    }
    this.#length += source.length;
  }

  /** Any small value, as `JSON.stringify` writes it. */
  json(value: unknown): void {
    this.jsonText(JSON.stringify(value));
  }

  /** JSON that is ready, of any letters. */
  jsonText(source: string): void {
    // UTF-8 takes at most three bytes for one UTF-16 unit.
    this.reserve(source.length * 3);
    const { written } = encoder.encodeInto(source, this.#bytes.subarray(this.#length));
    this.#length += written;
  }

  /** A row as an array of numbers, shortest digits. The row is borrowed and finite. */
  floats(row: Float32Array): void {
    this.reserve(row.length * FLOAT32_JSON_BYTES_MAX + 2);
    this.#bytes[this.#length++] = 0x5b;
    this.#length = writeFloat32Json(this.#bytes, this.#view, this.#length, row);
    this.#bytes[this.#length++] = 0x5d;
  }

  /** The row of a text in either encoding; null where the text has none. */
  row(row: Float32Array, encoding: 'float' | 'base64' = 'float'): void {
    if (row.length === 0) this.ascii('null');
    else if (encoding === 'base64') this.base64(row);
    else this.floats(row);
  }

  /** A row's numbers with commas between them, without brackets: of a row of one, the number. */
  numbers(row: Float32Array): void {
    this.reserve(row.length * FLOAT32_JSON_BYTES_MAX);
    this.#length = writeFloat32Json(this.#bytes, this.#view, this.#length, row);
  }

  /** A row as a string: base64 of little-endian float32. The row is borrowed. */
  base64(row: Float32Array): void {
    const text = base64OfRow(row);
    this.reserve(text.length + 2);
    this.#bytes[this.#length++] = 0x22;
    this.ascii(text);
    this.#bytes[this.#length++] = 0x22;
  }

  /** What was written, and an empty writer. The bytes are lent until it is written to again. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    if (this.#bytes.length <= KEPT_BYTES_MAX) return taken;
    this.#bytes = new Uint8Array(FIRST_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
    return taken;
  }

  /** Forgets what was written. */
  clear(): void {
    this.#length = 0;
  }
}

/** Undefined after a streamed document, which has its memory: the next takes what came back. */
let writer: ByteWriter | undefined = new ByteWriter();
let writing = false;

/**
 * Writes one JSON document to bytes, over a buffer that all documents of the thread share but those
 * that are streamed.
 *
 * @param build writes the whole document before it returns; it must not keep the writer, nor call
 * `writeJson`.
 * @returns lent as the body of `EncodedReply` is.
 */
export function writeJson(build: (writer: ByteWriter) => void): Uint8Array<ArrayBuffer> {
  invariant(!writing, 'One document is written at a time.');
  writing = true;
  writer ??= new ByteWriter(takeReplyMemory(FIRST_BYTES));
  try {
    build(writer);
    const document = writer.take();
    if (isStreamed(document)) {
      ownReplyMemory(document);
      writer = undefined;
    }
    return document;
  } finally {
    writer?.clear();
    writing = false;
  }
}
