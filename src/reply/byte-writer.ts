import { invariant } from '../base/errors.ts';
import { FLOAT32_JSON_BYTES_MAX, writeFloat32Json } from './float32-json.ts';
import { base64OfRow } from './row-bytes.ts';

/**
 * A buffer up to this size is kept for the next reply: room for 1,000 rows of 1,024 values, counted
 * at their longest.
 */
const KEPT_BYTES_MAX = 1 << 24;
const FIRST_BYTES = 1 << 16;

/** Longest text that is written byte by byte. Above it the engine's encoder is faster. */
const SHORT_CHARS_MAX = 32;

const NO_ASCII = 'JSON source that is written as ASCII must be ASCII.';

const encoder = new TextEncoder();

/**
 * Writes JSON as bytes. Parts follow one another without anything in between: the caller writes the
 * commas.
 */
export class ByteWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

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
    const source = JSON.stringify(value);
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

const writer = new ByteWriter();
let writing = false;

/**
 * Writes one JSON document to bytes, over a buffer that all documents of the thread share.
 *
 * @param build writes the whole document before it returns; it must not keep the writer, nor call
 * `writeJson`.
 * @returns lent until the next document of this thread.
 */
export function writeJson(build: (writer: ByteWriter) => void): Uint8Array<ArrayBuffer> {
  invariant(!writing, 'One document is written at a time.');
  writing = true;
  try {
    build(writer);
    return writer.take();
  } finally {
    writer.clear();
    writing = false;
  }
}
