import { invariant } from '../base/errors.ts';
import { isQuantized, quantizeRow } from '../vectors/quantize.ts';
import { setFloat16 } from '../vectors/row-kernels.ts';
import type { ReplyDtype } from './reply-content.ts';

// Float32Array and Int32Array have the machine's byte order, and every format here is
// little-endian.
invariant(
  new Uint8Array(Uint32Array.of(1).buffer)[0] === 1,
  'The codecs are written for a little-endian machine.',
);

/** Numbers as a binary reply may hold them. */
export type NumberArray = Float32Array | Float16Array | Int32Array | Int8Array | Uint8Array;

/** Numbers that go into a binary reply as one block. All arrays of a block have one type. */
export interface NumberBlock {
  readonly arrays:
    | readonly Float32Array[]
    | readonly Float16Array[]
    | readonly Int32Array[]
    | readonly Bytes[];
  /** Halves the bytes of float32 arrays. */
  readonly asFloat16: boolean;
  /** Bytes in front of its only array that may be written over. Default: 0. */
  readonly roomBytes?: number;
}

type Bytes = Int8Array | Uint8Array;

/** A block of rows in the type that was negotiated. Integer rows are new arrays. */
export function blockOf(arrays: readonly Float32Array[], dtype: ReplyDtype): NumberBlock {
  if (!isQuantized(dtype)) return { arrays, asFloat16: dtype === 'float16' };
  return { arrays: arrays.map((row) => quantizeRow(row, dtype)), asFloat16: false };
}

/** The type of numbers as numpy spells it; `<` is little-endian. */
export function numpyTypeOf(values: NumberArray): string {
  if (values instanceof Float16Array) return '<f2';
  if (values instanceof Int32Array) return '<i4';
  if (values instanceof Int8Array) return '|i1';
  return values instanceof Uint8Array ? '|u1' : '<f4';
}

/** How many bytes a block takes. */
export function bytesOfBlock({ arrays, asFloat16 }: NumberBlock): number {
  let bytes = 0;
  for (const array of arrays) bytes += array.byteLength;
  return asFloat16 ? bytes / 2 : bytes;
}

/**
 * Copies a block's numbers to `target`, little-endian, array after array. It is the only copy
 * between a backend's rows and the reply. `lendReplyBytes` places a large block so that its numbers
 * are aligned in memory: then no view is made for any row.
 *
 * @returns the offset after the last byte.
 */
export function copyBlock(
  target: Uint8Array<ArrayBuffer>,
  offset: number,
  block: NumberBlock,
): number {
  const { asFloat16 } = block;
  const whole = wholeOf(block.arrays);
  const arrays: NumberBlock['arrays'] = whole === undefined ? block.arrays : [whole];
  const bytes = bytesOfBlock(block);
  const start = target.byteOffset + offset;
  const areWords = arrays[0]?.BYTES_PER_ELEMENT === 4;
  if (!areWords || start % 4 !== 0) return copyUnaligned(target, offset, { arrays, asFloat16 });
  let at = 0;
  if (asFloat16) {
    const halves = new Float16Array(target.buffer, start, bytes / 2);
    for (const array of arrays) {
      setFloat16(halves, array as Float32Array, at);
      at += array.length;
    }
  } else {
    const type = arrays[0] instanceof Int32Array ? Int32Array : Float32Array;
    const numbers = new type(target.buffer, start, bytes / 4);
    for (const array of arrays) {
      numbers.set(array, at);
      at += array.length;
    }
  }
  return offset + bytes;
}

/**
 * Several rows that follow one another in memory, as those of a request do, as one array: copied by
 * one call. Undefined where they are others.
 */
function wholeOf(arrays: NumberBlock['arrays']): Float32Array | undefined {
  const first = arrays[0];
  if (arrays.length < 2 || !(first instanceof Float32Array)) return undefined;
  const { buffer } = first;
  let end = first.byteOffset;
  for (const array of arrays) {
    if (array.byteOffset !== end || array.buffer !== buffer) return undefined;
    end += array.byteLength;
  }
  return new Float32Array(buffer, first.byteOffset, (end - first.byteOffset) / 4);
}

function copyUnaligned(target: Uint8Array, offset: number, block: NumberBlock): number {
  for (const array of block.arrays) {
    // Converted outside the reply: the block may start at an odd byte.
    const numbers = block.asFloat16 ? float16Of(array as Float32Array) : array;
    target.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), offset);
    offset += numbers.byteLength;
  }
  return offset;
}

/**
 * Float32 as float16, rounded to nearest, ties to even.
 *
 * @param values borrowed.
 * @returns a copy of `values.length` numbers; owned by the caller.
 */
export function float16Of(values: Float32Array): Float16Array<ArrayBuffer> {
  const halves = new Float16Array(values.length);
  setFloat16(halves, values, 0);
  return halves;
}

/**
 * Base64 of a row's bytes, little-endian float32, as OpenAI's clients ask for it.
 *
 * @param row borrowed, and read in place.
 */
export function base64OfRow(row: Float32Array): string {
  return Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('base64');
}
