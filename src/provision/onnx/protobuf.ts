import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { demand } from '../provision-error.ts';

/** Random access to bytes that need not all be in memory. */
export interface ByteSource {
  readonly byteCount: number;
  /** Bytes `[start, end)`; borrowed, valid until the next call. */
  slice(start: number, end: number): Uint8Array;
}

/** One field of a protobuf message: a number, or the place of its bytes in the source. */
export interface ProtoField {
  readonly number: number;
  readonly wire: number;
  /** The value of a varint; zero for the other wire types. */
  readonly varint: bigint;
  /** Where the payload of the other wire types starts and ends. */
  readonly start: number;
  readonly end: number;
}

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
/** A varint of 64 bits has at most this many bytes, and a tag with its length two of them. */
const VARINT_BYTES_MAX = 10;
/** A message of up to this many bytes is copied into one part; larger ones are borrowed. */
const JOINED_BYTES_MAX = 4_096;
/** Enough to walk thousands of small fields between two reads of the file. */
const WINDOW_BYTES = 65_536;

/** Bytes that are in memory already. Borrows them. */
export function createMemorySource(bytes: Uint8Array): ByteSource {
  return { byteCount: bytes.length, slice: (start, end) => bytes.subarray(start, end) };
}

/**
 * A file, read in windows: a model of gigabytes is walked without being loaded. `close` gives the
 * descriptor back.
 *
 * @throws ProvisionError when the file ends early.
 */
export function createFileSource(path: string): ByteSource & { close(): void } {
  const descriptor = openSync(path, 'r');
  const byteCount = fstatSync(descriptor).size;
  let window = new Uint8Array(0);
  let windowStart = 0;
  return {
    byteCount,
    slice(start, end) {
      if (start < windowStart || end > windowStart + window.length) {
        const length = Math.min(Math.max(end - start, WINDOW_BYTES), byteCount - start);
        window = new Uint8Array(length);
        windowStart = start;
        const read = readSync(descriptor, window, 0, length, start);
        demand(read === length && end <= start + read, `${path} ends at byte ${start + read}.`);
      }
      return window.subarray(start - windowStart, end - windowStart);
    },
    close: () => closeSync(descriptor),
  };
}

/**
 * Walks the fields of the message that fills `[start, end)`. Payloads are not read, only their
 * places are.
 *
 * @throws ProvisionError when the bytes are no protobuf message.
 */
export function* protoFields(
  source: ByteSource,
  start = 0,
  end = source.byteCount,
): Generator<ProtoField> {
  let at = start;
  while (at < end) {
    const head = readVarint(source, at, end);
    const number = Number(head.value >> 3n);
    const wire = Number(head.value & 7n);
    at = head.end;
    if (wire === VARINT) {
      const body = readVarint(source, at, end);
      at = body.end;
      yield { number, wire, varint: body.value, start: at, end: at };
      continue;
    }
    let length = wire === FIXED64 ? 8 : wire === FIXED32 ? 4 : -1;
    if (wire === LENGTH_DELIMITED) {
      const prefix = readVarint(source, at, end);
      at = prefix.end;
      length = Number(prefix.value);
    }
    demand(length >= 0 && at + length <= end, `Not a protobuf message at byte ${at}.`);
    yield { number, wire, varint: 0n, start: at, end: at + length };
    at += length;
  }
}

/**
 * The numbers of a repeated varint field, packed or one by one. Unsigned, as they stand on the
 * wire.
 */
export function readVarints(source: ByteSource, field: ProtoField): bigint[] {
  if (field.wire === VARINT) return [field.varint];
  const values: bigint[] = [];
  let at = field.start;
  while (at < field.end) {
    const { value, end } = readVarint(source, at, field.end);
    values.push(value);
    at = end;
  }
  return values;
}

/** The payload of a field as text. */
export function readText(source: ByteSource, field: ProtoField): string {
  return new TextDecoder().decode(source.slice(field.start, field.end));
}

/** The payload of a field; owned by the caller. */
export function readBytes(source: ByteSource, field: ProtoField): Uint8Array {
  return source.slice(field.start, field.end).slice();
}

function readVarint(source: ByteSource, start: number, end: number) {
  const bytes = source.slice(start, Math.min(start + VARINT_BYTES_MAX, end));
  let value = 0n;
  for (let index = 0; index < bytes.length; index += 1) {
    const byte = bytes[index] ?? 0;
    value |= BigInt(byte & 127) << BigInt(7 * index);
    if (byte < 128) return { value: BigInt.asUintN(64, value), end: start + index + 1 };
  }
  demand(false, `Not a protobuf message at byte ${start}.`);
}

/**
 * Writes one protobuf message as a list of parts. Blocks of bytes are borrowed, not copied, and a
 * message's length is the sum of its parts: a model of gigabytes costs no more than its weights.
 */
export class ProtoWriter {
  readonly #parts: Uint8Array[] = [];
  #byteLength = 0;

  /** Bytes written so far. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** The message in order; borrowed from whoever handed in its blocks. */
  get parts(): readonly Uint8Array[] {
    return this.#parts;
  }

  /** An integer; negative ones as 64-bit two's complement, as protobuf's `int64` has them. */
  varint(number: number, value: bigint | number): this {
    return this.#tag(number, VARINT).#push(varintBytes(BigInt.asUintN(64, BigInt(value))));
  }

  /** A 32-bit float. */
  float(number: number, value: number): this {
    return this.#tag(number, FIXED32).#push(new Uint8Array(Float32Array.of(value).buffer));
  }

  /** A block of bytes; borrowed. */
  bytes(number: number, value: Uint8Array): this {
    return this.#tag(number, LENGTH_DELIMITED)
      .#push(varintBytes(BigInt(value.byteLength)))
      .#push(value);
  }

  /** A string, as UTF-8. */
  text(number: number, value: string): this {
    return this.bytes(number, new TextEncoder().encode(value));
  }

  /** A message inside this one; what is written to `value` later does not count. */
  message(number: number, value: ProtoWriter): this {
    this.#tag(number, LENGTH_DELIMITED).#push(varintBytes(BigInt(value.byteLength)));
    // Thousands of nodes have a dozen small parts each: joined, they are one array each.
    if (value.byteLength <= JOINED_BYTES_MAX) return this.#push(Buffer.concat(value.#parts));
    for (const part of value.#parts) this.#push(part);
    return this;
  }

  #tag(number: number, wire: number): this {
    return this.#push(varintBytes(BigInt(number * 8 + wire)));
  }

  #push(part: Uint8Array): this {
    this.#parts.push(part);
    this.#byteLength += part.byteLength;
    return this;
  }
}

function varintBytes(value: bigint): Uint8Array {
  const out: number[] = [];
  let rest = value;
  while (rest > 127n) {
    out.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  out.push(Number(rest));
  return Uint8Array.from(out);
}
