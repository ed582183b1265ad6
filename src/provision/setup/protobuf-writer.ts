/**
 * Writes Protocol Buffers messages as a list of parts. Large blocks of bytes are borrowed, not
 * copied, and a message's length is the sum of its parts: a model of gigabytes costs no more memory
 * than its weights.
 */
export class ProtobufWriter {
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;

  /** Bytes written so far. */
  get byteLength(): number {
    return this.#bytes;
  }

  /** The message in order; borrowed from whoever handed in its blocks. */
  get parts(): readonly Uint8Array[] {
    return this.#parts;
  }

  /**
   * An integer field; negative numbers as 64-bit two's complement, as protobuf's `int64` has them.
   */
  integer(field: number, value: number | bigint): this {
    this.#push(encodeVarint((field << 3) | WIRE_VARINT));
    return this.#push(encodeVarint(value));
  }

  /** A 32-bit float field. */
  float(field: number, value: number): this {
    this.#push(encodeVarint((field << 3) | WIRE_FIXED32));
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#push(bytes);
  }

  /** A string field, as UTF-8. */
  string(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  /** A bytes field; `value` is borrowed. */
  bytes(field: number, value: Uint8Array): this {
    this.#push(encodeVarint((field << 3) | WIRE_LENGTH));
    this.#push(encodeVarint(value.byteLength));
    return this.#push(value);
  }

  /** A message inside this one; what is written to `message` later does not count. */
  message(field: number, message: ProtobufWriter): this {
    this.#push(encodeVarint((field << 3) | WIRE_LENGTH));
    this.#push(encodeVarint(message.byteLength));
    for (const part of message.#parts) this.#push(part);
    return this;
  }

  #push(part: Uint8Array): this {
    this.#parts.push(part);
    this.#bytes += part.byteLength;
    return this;
  }
}

// Wire types of the protobuf encoding.
const WIRE_VARINT = 0;
const WIRE_LENGTH = 2;
const WIRE_FIXED32 = 5;

function encodeVarint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? low : low | 0x80);
  } while (rest !== 0n);
  return Uint8Array.from(bytes);
}
