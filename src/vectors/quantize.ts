/** The smaller forms in which a dense row can be had. */
export const QUANTIZED = ['int8', 'uint8', 'binary', 'ubinary'] as const;

/** One of them. */
export type Quantized = (typeof QUANTIZED)[number];

/** Whether a name of a type of numbers is one of them. */
export function isQuantized(name: string | undefined): name is Quantized {
  return QUANTIZED.some((form) => form === name);
}

/**
 * A dense row in fewer bytes, by the definitions that stores and other servers use:
 *
 * - `int8`: round(127 · x / max|x|), per row. Cosines do not see the scale; dot products do.
 * - `uint8`: int8 + 128, so that 128 stands for 0.
 * - `ubinary`: one bit a dimension, 1 where x > 0. Dimension i is bit 7 − (i mod 8) of byte ⌊i/8⌋,
 *   as numpy's `packbits` has it. Bits beyond the last dimension are 0.
 * - `binary`: ubinary − 128 in each byte (offset binary), as sentence-transformers and Cohere have
 *   it.
 *
 * The largest value is the row's own: a scale over all rows would need rows to calibrate by, and a
 * row's bytes would depend on them.
 *
 * @param row finite, borrowed.
 * @returns a new array: of as many values as the row for int8 and uint8, of ⌈n / 8⌉ bytes for the
 * packed forms.
 */
export function quantizeRow(row: Float32Array, form: Quantized): Int8Array | Uint8Array {
  if (form === 'int8') return scaled(row, new Int8Array(row.length), 0);
  if (form === 'uint8') return scaled(row, new Uint8Array(row.length), 128);
  const bits = packBits(row);
  if (form === 'ubinary') return bits;
  return Int8Array.from(bits, (byte) => byte - 128);
}

function scaled<Bytes extends Int8Array | Uint8Array>(
  row: Float32Array,
  out: Bytes,
  zero: number,
): Bytes {
  let largest = 0;
  for (const value of row) largest = Math.max(largest, Math.abs(value));
  const scale = largest === 0 ? 0 : 127 / largest;
  for (let index = 0; index < row.length; index++) {
    out[index] = Math.round(row[index] * scale) + zero;
  }
  return out;
}

function packBits(row: Float32Array): Uint8Array {
  const bits = new Uint8Array(Math.ceil(row.length / 8));
  for (let index = 0; index < row.length; index++) {
    if (row[index] > 0) bits[index >> 3] |= 128 >> (index & 7);
  }
  return bits;
}
