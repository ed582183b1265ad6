import { findShortest, shortest } from './float32-digits.ts';

/**
 * Writes float32 values as JSON numbers, straight to bytes: the shortest digits that read back to the same float32,
 * by `Math.fround(JSON.parse(…))` as by a parser that rounds to float32 at once.
 *
 * Nearly every component of a unit vector lies in [2^-16, 1). There, everything can be had in plain doubles without any
 * rounding. A float32 has 24 bits, the midpoint to its neighbour 25. With n decimals chosen for its binade such that the
 * interval which reads back to the value, scaled by 10^n, is 1 to 10 wide, n is at most 12; 5^12 has 28 bits, and
 * 25 + 28 is the 53 that a double holds (the 2 of 10 = 2 * 5 only moves the point). So `value * 10^n` is exact, as are the
 * comparisons with the interval's half width, and the multiple of ten inside the interval, if there is one, otherwise the
 * nearest integer, are the digits (see `float32-digits.ts` for why). A midpoint is a fraction with a power of two below
 * it that 10^n does not cancel, never an integer: ties of digits and interval do not occur.
 */

/** Bytes to set aside for a value: `-1.17549435e-38,` has 16, and 4 bytes are written at a time. */
export const FLOAT32_JSON_BYTES_MAX = 20;

/** Biased exponents of [2^-16, 1). */
const FAST_FIRST = 127 - 16;
const FAST_COUNT = 16;
const FRACTION_MASK = 0x7fffff;

/** Decimals, 10^decimals, and the interval's scaled half width, for each fast binade. */
const fastDecimals = new Int32Array(FAST_COUNT);
const fastPower = new Float64Array(FAST_COUNT);
const fastHalf = new Float64Array(FAST_COUNT);
for (let index = 0; index < FAST_COUNT; index++) {
  const step = 2 ** (index - 16 - 23);
  const decimals = Math.ceil(-Math.log10(step));
  fastDecimals[index] = decimals;
  fastPower[index] = 10 ** decimals;
  fastHalf[index] = (step / 2) * 10 ** decimals;
}

/** `0000` to `9999`, as they lie in memory; 40 kB. */
const fourDigits = new Uint32Array(10_000);
new Uint8Array(fourDigits.buffer).set(
  Array.from({ length: 10_000 }, (_, value) => String(value).padStart(4, '0'))
    .join('')
    .split('')
    .map((digit) => digit.charCodeAt(0)),
);

const ZERO = 48;
const COMMA = 44;
const POINT = 46;
const MINUS = 45;
/** `0.00` as it lies in memory. */
const ZERO_POINT_ZEROS = 0x30302e30;

/**
 * Writes a row's values with commas between them, without brackets.
 *
 * @param bytes written to; must have room for `row.length * FLOAT32_JSON_BYTES_MAX` bytes after `offset`.
 * @param view over the same bytes.
 * @param row borrowed. Every value is finite, or it is an `InvariantError`.
 * @returns the offset after the last digit. Bytes behind it may have been written to.
 */
export function writeFloat32Json(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  row: Float32Array,
): number {
  if (row.length === 0) return offset;
  const patterns = new Uint32Array(row.buffer, row.byteOffset, row.length);
  for (let index = 0; index < patterns.length; index++) {
    const bits = patterns[index] as number;
    const binade = ((bits >>> 23) & 0xff) - FAST_FIRST;
    // A power of two has an uneven interval; it takes the long way.
    if (binade >>> 0 >= FAST_COUNT || (bits & FRACTION_MASK) === 0) {
      offset = writeAny(bytes, offset, bits);
      bytes[offset++] = COMMA;
      continue;
    }
    bytes[offset] = MINUS;
    offset += bits >>> 31;

    const scaled = Math.abs(row[index] as number) * (fastPower[binade] as number);
    const half = fastHalf[binade] as number;
    // 0.1 is a little above a tenth, by so little that the product rounds to the quotient: exact below 2^31.
    const tens = ((scaled * 0.1) | 0) * 10;
    const above = scaled - tens;
    let digits = (scaled + 0.5) | 0;
    let strip = false;
    if (above < half) {
      digits = tens;
      strip = true;
    } else if (10 - above < half) {
      digits = tens + 10;
      strip = true;
    }

    // Nine digits, the first of which may stand where the point goes: then it is a zero, and the point comes after it.
    const high = (digits * 1e-4) | 0;
    const first = (high * 1e-4) | 0;
    const at = offset + (fastDecimals[binade] as number) - 7;
    view.setUint32(offset, ZERO_POINT_ZEROS, true);
    bytes[offset + 4] = ZERO;
    bytes[at] = ZERO + first;
    bytes[offset + 1] = POINT;
    view.setUint32(at + 1, fourDigits[high - first * 10_000] as number, true);
    view.setUint32(at + 5, fourDigits[digits - high * 10_000] as number, true);
    offset = at + 9;
    if (strip) while (bytes[offset - 1] === ZERO) offset--;
    bytes[offset++] = COMMA;
  }
  return offset - 1;
}

/** Writes the value of any finite pattern, by `findShortest`. */
function writeAny(bytes: Uint8Array, offset: number, bits: number): number {
  if (bits >>> 31 === 1) bytes[offset++] = MINUS;
  if ((bits & 0x7fffffff) === 0) {
    bytes[offset++] = ZERO;
    return offset;
  }
  findShortest(bits);
  const { digits, exponent } = shortest;
  const count = digitCountOf(digits);
  // The value is 0.d1d2d3… times ten to this.
  const magnitude = exponent + count;
  if (magnitude > -5 && magnitude <= 0) {
    bytes[offset++] = ZERO;
    bytes[offset++] = POINT;
    for (let zeros = magnitude; zeros < 0; zeros++) bytes[offset++] = ZERO;
    return writeDigits(bytes, offset, digits, count);
  }
  if (magnitude > 0 && magnitude <= 10) {
    if (exponent < 0) return writePointed(bytes, offset, { digits, count, whole: magnitude });
    offset = writeDigits(bytes, offset, digits, count);
    for (let zeros = exponent; zeros > 0; zeros--) bytes[offset++] = ZERO;
    return offset;
  }
  offset =
    count === 1
      ? writeDigits(bytes, offset, digits, count)
      : writePointed(bytes, offset, { digits, count, whole: 1 });
  bytes[offset++] = 0x65; // e
  const power = Math.abs(magnitude - 1);
  if (magnitude < 1) bytes[offset++] = MINUS;
  return writeDigits(bytes, offset, power, power < 10 ? 1 : 2);
}

function writePointed(
  bytes: Uint8Array,
  offset: number,
  { digits, count, whole }: { digits: number; count: number; whole: number },
): number {
  // The fraction's digits are put one place too far; the whole part and the point then close the gap.
  const end = writeDigits(bytes, offset + 1, digits, count);
  for (let index = 0; index < whole; index++) {
    bytes[offset + index] = bytes[offset + index + 1] as number;
  }
  bytes[offset + whole] = POINT;
  return end;
}

function writeDigits(bytes: Uint8Array, offset: number, digits: number, count: number): number {
  for (let index = offset + count - 1; index >= offset; index--) {
    const rest = (digits * 0.1) | 0;
    bytes[index] = ZERO + digits - rest * 10;
    digits = rest;
  }
  return offset + count;
}

function digitCountOf(digits: number): number {
  let count = 1;
  for (let power = 10; power <= digits; power *= 10) count++;
  return count;
}
