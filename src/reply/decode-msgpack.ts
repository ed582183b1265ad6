import { ServerError } from '../base/errors.ts';
import { BODY_VALUES_MAX, tooManyValues } from './decode-json.ts';
import { findUtf8Fault } from './utf8-fault.ts';

/**
 * The deepest body that a route takes has three levels (token ids: a map, its array, an array of
 * numbers).
 */
const DEPTH_MAX = 16;

/**
 * Up to this many bytes, reading ASCII byte by byte is faster than a call of `TextDecoder`: keys,
 * mostly.
 */
const SHORT_BYTES_MAX = 12;

// `fatal`: broken UTF-8 must not become U+FFFD and be embedded. `ignoreBOM`: U+FEFF at a text's
// start belongs to the text.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Decodes a request body from msgpack, strictly: the whole body is one value, maps have string
 * keys, strings are UTF-8, nesting and counts are bounded by the body, and of extension types only
 * msgpackr's own are read. Maps become plain objects, arrays become arrays, binary becomes
 * `Uint8Array`; an integer beyond 2^53 loses digits, as it does in JSON.
 *
 * This is our own reader because the libraries are lenient where we must not be: msgpackr passes
 * broken UTF-8 and unknown extensions on, so that all of this would have to be checked in a second
 * reading of the same bytes.
 *
 * @param body borrowed; nothing of the result is a view of it.
 * @throws ServerError `EMB_BODY_MALFORMED`; the message names the byte, counted from zero, and
 * shows nothing of the body. `EMB_BODY_TOO_LARGE` of one with too many values.
 */
export function decodeMsgpackBody(body: Uint8Array): unknown {
  const reader = new MsgpackReader(body);
  const value = reader.value(0);
  reader.expectEnd();
  return value;
}

/** The extension type by which msgpackr defines a record: `r`. */
const RECORD = 0x72;

/** msgpackr numbers records from here to 0x7f, and writes such integers in two bytes then. */
const RECORD_ID_MIN = 0x40;

class MsgpackReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #valueCount = 0;
  /** Keys of msgpackr's records, by their number; undefined while there are none. */
  #records: Map<number, readonly string[]> | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  expectEnd(): void {
    const rest = this.#bytes.length - this.#at;
    if (rest > 0) this.#fail(this.#at, `${rest} bytes follow the value`);
  }

  value(depth: number): unknown {
    if (++this.#valueCount > BODY_VALUES_MAX) throw tooManyValues();
    const start = this.#at;
    const first = this.#unsigned(1);
    if (first < 0x80) {
      const keys = this.#records?.get(first);
      return keys === undefined ? first : this.#record(keys, depth);
    }
    if (first >= 0xe0) return first - 0x100;
    if (first < 0x90) return this.#map(first & 0x0f, depth);
    if (first < 0xa0) return this.#array(first & 0x0f, depth);
    if (first < 0xc0) return this.#string(first & 0x1f);
    switch (first) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#binary(this.#unsigned(1 << (first - 0xc4)));
      case 0xca:
        return this.#view.getFloat32(this.#take(4));
      case 0xcb:
        return this.#view.getFloat64(this.#take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#unsigned(1 << (first - 0xcc));
      case 0xcf:
        return Number(this.#view.getBigUint64(this.#take(8)));
      case 0xd0:
        return this.#view.getInt8(this.#take(1));
      case 0xd1:
        return this.#view.getInt16(this.#take(2));
      case 0xd2:
        return this.#view.getInt32(this.#take(4));
      case 0xd3:
        return Number(this.#view.getBigInt64(this.#take(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#string(this.#unsigned(1 << (first - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#unsigned(2 << (first - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.#map(this.#unsigned(2 << (first - 0xde)), depth);
      case 0xd4:
        return this.#ofMsgpackr(start, depth);
      case 0xc1:
        return this.#fail(start, 'the type 0xc1 does not exist');
      default:
        return this.#fail(start, 'extension types are not taken');
    }
  }

  #array(count: number, depth: number): unknown[] {
    this.#enter(count, depth);
    const items: unknown[] = [];
    for (let index = 0; index < count; index++) items.push(this.value(depth + 1));
    return items;
  }

  #map(count: number, depth: number): Record<string, unknown> {
    this.#enter(count * 2, depth);
    const members: Record<string, unknown> = {};
    for (let index = 0; index < count; index++) {
      const start = this.#at;
      const key = this.#key();
      // Assigned, this key would change the object's prototype.
      if (key === '__proto__') this.#fail(start, "the key '__proto__' is not taken");
      if (Object.hasOwn(members, key)) this.#fail(start, 'the key stands twice in one map');
      const value = this.value(depth + 1);
      if (value !== undefined) members[key] = value;
    }
    return members;
  }

  /**
   * What `msgpackr` writes of its own: `undefined`, which counts as absent, and records, which are
   * maps whose keys stand once: their number, an array of keys, the values. From then on the number
   * stands for the keys.
   */
  #ofMsgpackr(start: number, depth: number): unknown {
    const type = this.#unsigned(1);
    const id = this.#unsigned(1);
    if (type === 0 && id === 0) return undefined;
    if (type !== RECORD || id < RECORD_ID_MIN || id >= 0x80) {
      this.#fail(start, 'extension types are not taken');
    }
    const keys = this.value(depth + 1);
    const isRight = Array.isArray(keys) && keys.every((key) => typeof key === 'string');
    if (!isRight || new Set(keys).size < keys.length || keys.includes('__proto__')) {
      this.#fail(start, 'a record must name its keys, each once; or send useRecords: false');
    }
    this.#records ??= new Map();
    this.#records.set(id, keys as string[]);
    return this.#record(keys as string[], depth);
  }

  #record(keys: readonly string[], depth: number): Record<string, unknown> {
    this.#enter(keys.length, depth);
    const members: Record<string, unknown> = {};
    for (const key of keys) {
      const value = this.value(depth + 1);
      if (value !== undefined) members[key] = value;
    }
    return members;
  }

  #key(): string {
    const start = this.#at;
    const first = this.#unsigned(1);
    if (first >= 0xa0 && first < 0xc0) return this.#string(first & 0x1f);
    if (first >= 0xd9 && first <= 0xdb) return this.#string(this.#unsigned(1 << (first - 0xd9)));
    return this.#fail(start, 'a key must be a string');
  }

  /** Each value takes at least a byte, so that a count can promise no more than the body holds. */
  #enter(count: number, depth: number): void {
    if (depth >= DEPTH_MAX) this.#fail(this.#at, `values are nested deeper than ${DEPTH_MAX}`);
    if (count > this.#bytes.length - this.#at) {
      this.#fail(this.#at, `${count} values cannot follow, the body ends before`);
    }
  }

  #binary(length: number): Uint8Array {
    const start = this.#take(length);
    return new Uint8Array(this.#bytes.subarray(start, start + length));
  }

  #string(length: number): string {
    const start = this.#take(length);
    if (length <= SHORT_BYTES_MAX) {
      let text = '';
      for (let at = start; at < start + length; at++) {
        const byte = this.#bytes[at] ?? 0x80;
        if (byte >= 0x80) return this.#decode(start, length);
        text += String.fromCharCode(byte);
      }
      return text;
    }
    return this.#decode(start, length);
  }

  #decode(start: number, length: number): string {
    const bytes = this.#bytes.subarray(start, start + length);
    try {
      return decoder.decode(bytes);
    } catch (cause) {
      return this.#fail(start + findUtf8Fault(bytes), 'a string has broken UTF-8', cause);
    }
  }

  #unsigned(width: number): number {
    const start = this.#take(width);
    if (width === 1) return this.#view.getUint8(start);
    return width === 2 ? this.#view.getUint16(start) : this.#view.getUint32(start);
  }

  /** The offset of the next bytes, which are there. */
  #take(length: number): number {
    const start = this.#at;
    if (length > this.#bytes.length - start) {
      this.#fail(this.#bytes.length, 'the body ends in the middle of a value');
    }
    this.#at = start + length;
    return start;
  }

  #fail(at: number, what: string, cause?: unknown): never {
    throw new ServerError('EMB_BODY_MALFORMED', `The msgpack body breaks at byte ${at}: ${what}.`, {
      field: 'body',
      value: at,
      ...(cause === undefined ? {} : { cause }),
    });
  }
}
