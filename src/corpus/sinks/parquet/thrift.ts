const STOP = 0;
const I32 = 5;
const I64 = 6;
const BINARY = 8;
const LIST = 9;
const STRUCT = 12;
const TRUE = 1;
const FALSE = 2;

/** A value of Thrift's compact protocol, as far as Parquet's metadata needs it. */
export type ThriftValue =
  | { readonly i32: number }
  | { readonly i64: number }
  | { readonly bool: boolean }
  | { readonly text: string }
  | { readonly struct: ThriftStruct }
  | { readonly list: readonly ThriftValue[] };

/** Fields by their numbers; undefined ones are left out. */
export type ThriftStruct = Readonly<Record<number, ThriftValue | undefined>>;

/** Bytes of a struct in the compact protocol; owned by the caller. */
export function encodeThrift(struct: ThriftStruct): Uint8Array {
  const bytes: number[] = [];
  writeStruct(bytes, struct);
  return Uint8Array.from(bytes);
}

/** Appends an unsigned integer, seven bits a byte. */
export function writeVarint(bytes: number[], value: number): void {
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  bytes.push(rest);
}

function writeStruct(bytes: number[], struct: ThriftStruct): void {
  let before = 0;
  // Integer keys come in ascending order, which is what the deltas need.
  for (const [key, value] of Object.entries(struct)) {
    if (value === undefined) continue;
    const id = Number(key);
    const type = 'bool' in value ? (value.bool ? TRUE : FALSE) : typeOf(value);
    const delta = id - before;
    if (delta <= 15) bytes.push((delta << 4) | type);
    else {
      bytes.push(type);
      writeVarint(bytes, id * 2);
    }
    if (!('bool' in value)) writeValue(bytes, value);
    before = id;
  }
  bytes.push(STOP);
}

function writeValue(bytes: number[], value: ThriftValue): void {
  if ('i32' in value) writeVarint(bytes, value.i32 * 2);
  else if ('i64' in value) writeVarint(bytes, value.i64 * 2);
  else if ('text' in value) {
    const text = Buffer.from(value.text);
    writeVarint(bytes, text.length);
    for (const byte of text) bytes.push(byte);
  } else if ('struct' in value) writeStruct(bytes, value.struct);
  else if ('list' in value) {
    const { list } = value;
    const type = list[0] === undefined ? BINARY : typeOf(list[0]);
    if (list.length < 15) bytes.push((list.length << 4) | type);
    else {
      bytes.push(0xf0 | type);
      writeVarint(bytes, list.length);
    }
    for (const item of list) writeValue(bytes, item);
  } else bytes.push(value.bool ? TRUE : FALSE);
}

function typeOf(value: ThriftValue): number {
  if ('i32' in value) return I32;
  if ('i64' in value) return I64;
  if ('text' in value) return BINARY;
  if ('struct' in value) return STRUCT;
  return 'list' in value ? LIST : TRUE;
}
