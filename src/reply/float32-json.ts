import { invariant } from '../base/errors.ts';

/**
 * Writes float32 values as JSON numbers, straight to bytes: the shortest digits that read back to
 * the same float32, by `Math.fround(JSON.parse(…))` as by a parser that rounds to float32 at once.
 *
 * Nearly every component of a unit vector lies in [2^-16, 1). There, everything can be had in plain
 * doubles without any rounding. A float32 has 24 bits, the midpoint to its neighbour 25. With n
 * decimals chosen for its binade such that the interval which reads back to the value, scaled by
 * 10^n, is 1 to 10 wide, n is at most 12; 5^12 has 28 bits, and 25 + 28 is the 53 that a double
 * holds (the 2 of 10 = 2 * 5 only moves the point). So `value * 10^n` is exact, as are the
 * comparisons with the interval's half width, and the multiple of ten inside the interval, if there
 * is one, otherwise the nearest integer, are the digits (see `float32-digits.ts` for why). A
 * midpoint is a fraction with a power of two below it that 10^n does not cancel, never an integer:
 * ties of digits and interval do not occur.
 */

/** Bytes to set aside for a value: `-1.17549435e-38,` has 16, and 4 bytes are written at a time. */
export const FLOAT32_JSON_BYTES_MAX = 20;

/**
 * Biased exponent of 2^-16, and how many binades follow from there: up to 1, and up to 2^13, where
 * all this still holds.
 */
const FIRST_BINADE = 127 - 16;
const SMALL_COUNT = 16;
const EXACT_COUNT = 29;

const FRACTION_MASK = 0x7fffff;

/**
 * For each exact binade: n, the mantissa's last bit times 10^n, and half of that: the interval's
 * half width.
 */
const decimalsOf = new Int32Array(EXACT_COUNT);
const stepOf = new Float64Array(EXACT_COUNT);
const halfOf = new Float64Array(EXACT_COUNT);
for (let binade = 0; binade < EXACT_COUNT; binade++) {
  const step = 2 ** (binade - 16 - 23);
  const decimals = Math.ceil(-Math.log10(step));
  decimalsOf[binade] = decimals;
  stepOf[binade] = step * 10 ** decimals;
  halfOf[binade] = (step * 10 ** decimals) / 2;
}

/** `0000` to `9999`, as they lie in memory; 40 kB. */
const fourDigits = new Int32Array(10_000);
/** With how many zeros each of them ends. */
const endZeros = new Uint8Array(10_000);
for (let value = 0; value < 10_000; value++) {
  const text = String(value).padStart(4, '0');
  endZeros[value] = text.length - text.replace(/0+$/, '').length;
  for (let place = 3; place >= 0; place--) {
    fourDigits[value] = (fourDigits[value] << 8) | text.charCodeAt(place);
  }
}

const powersOfTen = Int32Array.from({ length: 9 }, (_, power) => 10 ** power);

const ZERO = 48;
const COMMA = 44;
const POINT = 46;
const MINUS = 45;
/** `0.00` as it lies in memory. */
const ZERO_POINT_ZEROS = 0x30302e30;

/**
 * Writes a row's values with commas between them, without brackets.
 *
 * @param bytes written to; must have room for `row.length * FLOAT32_JSON_BYTES_MAX` bytes after
 * `offset`.
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
  const patterns = new Int32Array(row.buffer, row.byteOffset, row.length);
  for (let index = 0; index < patterns.length; index++) {
    const bits = patterns[index];
    const binade = ((bits >>> 23) & 0xff) - FIRST_BINADE;
    if (binade >>> 0 >= SMALL_COUNT || (bits & FRACTION_MASK) === 0) {
      offset = writeOther(bytes, view, offset, bits);
      continue;
    }
    // Signs are as good as random: a branch on them would be guessed wrong every other time.
    bytes[offset] = MINUS;
    offset = (offset + (bits >>> 31)) | 0;

    // At most nine digits: one, four and four. Divisions by constants and `imul` stay in integer
    // registers.
    const digits = exactDigits(bits, binade);
    const high = (digits / 10_000) | 0;
    const first = (9_999 - high) >>> 31;
    const middle = (high - Math.imul(first, 10_000)) | 0;
    const low = (digits - Math.imul(high, 10_000)) | 0;

    // The first of the nine may stand where the point goes: it is a zero then, and the point is put
    // over it.
    const at = (offset + decimalsOf[binade] - 7) | 0;
    view.setInt32(offset, ZERO_POINT_ZEROS, true);
    bytes[offset + 4] = ZERO;
    bytes[at] = ZERO + first;
    bytes[offset + 1] = POINT;
    view.setInt32(at + 1, fourDigits[middle], true);
    view.setInt32(at + 5, fourDigits[low], true);
    offset = (at + 9 - endZeros[low]) | 0;
    if (low === 0) while (bytes[offset - 1] === ZERO) offset--;
    bytes[offset] = COMMA;
    offset = (offset + 1) | 0;
  }
  return offset - 1;
}

/**
 * The shortest digits of a value in an exact binade, as an integer: the value times 10^n. May end
 * in zeros.
 */
function exactDigits(bits: number, binade: number): number {
  const scaled = ((bits & FRACTION_MASK) | HIDDEN_BIT) * stepOf[binade];
  // Both are right although 0.1 is no tenth: one that is off is so far from `scaled` that it is not
  // chosen.
  const tens = Math.imul((scaled * 0.1 + 0.5) | 0, 10);
  const units = (scaled + 0.5) | 0;
  // No branch, as its outcome would be anyone's guess.
  const choice = -(Math.abs(scaled - tens) < halfOf[binade]);
  return (units + ((tens - units) & choice)) | 0;
}

/**
 * What the loop above does not write itself: kept out of it, so that it stays small enough for the
 * compiler's registers.
 */
function writeOther(bytes: Uint8Array, view: DataView, offset: number, bits: number): number {
  if (bits >>> 31 === 1) bytes[offset++] = MINUS;
  const binade = ((bits >>> 23) & 0xff) - FIRST_BINADE;
  // A power of two has an uneven interval; it takes the long way.
  const exact = binade >= SMALL_COUNT && binade < EXACT_COUNT && (bits & FRACTION_MASK) !== 0;
  offset = exact ? writeAboveOne(bytes, view, offset, bits) : writeAny(bytes, offset, bits);
  bytes[offset] = COMMA;
  return offset + 1;
}

/**
 * Writes the value of an exact binade from 1 on, without its sign: at most four digits, and at most
 * seven decimals.
 */
function writeAboveOne(bytes: Uint8Array, view: DataView, offset: number, bits: number): number {
  const binade = ((bits >>> 23) & 0xff) - FIRST_BINADE;
  const decimals = decimalsOf[binade];
  const digits = exactDigits(bits, binade);
  const whole = (digits / powersOfTen[decimals]) | 0;
  const rest = (digits - Math.imul(whole, powersOfTen[decimals])) | 0;
  const fraction = Math.imul(rest, powersOfTen[8 - decimals]);

  const leadingZeros = whole < 10 ? 3 : whole < 100 ? 2 : whole < 1_000 ? 1 : 0;
  view.setInt32(offset, fourDigits[whole] >>> (leadingZeros * 8), true);
  offset += 4 - leadingZeros;
  if (fraction === 0) return offset;
  const high = (fraction / 10_000) | 0;
  const low = (fraction - Math.imul(high, 10_000)) | 0;
  bytes[offset] = POINT;
  view.setInt32(offset + 1, fourDigits[high], true);
  view.setInt32(offset + 5, fourDigits[low], true);
  return offset + 9 - (low === 0 ? 4 + endZeros[high] : endZeros[low]);
}

/** Writes the value of any finite pattern, without its sign, by `findShortest`. */
function writeAny(bytes: Uint8Array, offset: number, bits: number): number {
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
  // The fraction's digits are put one place too far; the whole part and the point then close the
  // gap.
  const end = writeDigits(bytes, offset + 1, digits, count);
  for (let index = 0; index < whole; index++) {
    bytes[offset + index] = bytes[offset + index + 1];
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

/**
 * The shortest decimal of any finite float32, by Schubfach (Raffaello Giulietti, "The Schubfach way
 * to render doubles", 2020). `float32-json.ts` writes most values of an embedding by a shorter way;
 * all others come here.
 *
 * A value is `c * 2^q`. Everything between its two neighbours' midpoints reads back to it. Choose k
 * so that this interval is 1 to 10 steps of `10^k` wide (a bit less at a power of two): then at
 * most one multiple of `10^(k+1)` lies in it, and if one does, it is the shortest decimal once its
 * zeros are stripped; if none does, the nearest multiple of `10^k` is.
 *
 * All comparisons are made on four times the value in units of `10^k`, as an integer part plus a
 * sticky bit: the 63-bit approximation of `10^-k` is close enough for float32 that these never lie
 * (section 9 of the paper; and `scripts/sim/float32-json-sim.ts` has tried each of the 2^32
 * patterns). JavaScript has no 64-bit integers that are fast, so that the power is kept as three
 * parts of 21 bits: a part times a factor below 2^32 is exact in a double.
 */

/**
 * The decimal that was found last: `digits * 10^exponent`, no zeros at the end. Here, so that
 * nothing is allocated.
 */
const shortest = { digits: 0, exponent: 0 };

/**
 * The one value whose shortest decimal, 7.038531e-26, does not survive two roundings: the nearest
 * double is the midpoint to the next float32, and from there `Math.fround` goes to that. One digit
 * more is right for every reader.
 */
const TWICE_ROUNDED_BITS = 0x15ae43fd;
const TWICE_ROUNDED = { digits: 70385307, exponent: -33 };

const MANTISSA_BITS = 23;
const HIDDEN_BIT = 1 << MANTISSA_BITS;
const PART = 2 ** 21;
const PART_INVERSE = 2 ** -21;
/**
 * Of the middle part's bits, those from here on count for the sticky bit; lower ones hold the
 * power's own error.
 */
const STICKY_FROM = 2 ** 11;

/**
 * The exponents k that a finite float32 can need: 2^-149 is 1.4e-45, the largest binade has steps
 * of 2^104 = 2.0e31.
 */
const K_MIN = -46;
const K_MAX = 31;

/** `10^-k`'s 63 highest bits, plus one, in three parts; by k - K_MIN. */
const powerHigh = new Float64Array(K_MAX - K_MIN + 1);
const powerMiddle = new Float64Array(K_MAX - K_MIN + 1);
const powerLow = new Float64Array(K_MAX - K_MIN + 1);
fillPowers();

/** For each biased exponent: k, and the factor that turns `4 * c` into what `scaled` takes. */
const stepExponent = new Int8Array(255);
const stepScale = new Float64Array(255);
/** The same for powers of two, whose interval is only three quarters as wide. */
const unevenExponent = new Int8Array(255);
const unevenScale = new Float64Array(255);
fillSteps(stepExponent, stepScale, 1);
fillSteps(unevenExponent, unevenScale, 0.75);

/**
 * Finds the shortest decimal that reads back to a float32, of those the nearest to it, and leaves
 * it in `shortest`.
 *
 * @param bits the value's pattern. Its sign is ignored; neither zero nor non-finite.
 */
function findShortest(bits: number): void {
  const biased = (bits >>> MANTISSA_BITS) & 0xff;
  const fraction = bits & (HIDDEN_BIT - 1);
  invariant(biased !== 0xff, 'A value that is not finite has no decimal.');
  if ((bits & 0x7fffffff) === TWICE_ROUNDED_BITS) {
    keep(TWICE_ROUNDED.digits, TWICE_ROUNDED.exponent);
    return;
  }
  const c = biased === 0 ? fraction : fraction | HIDDEN_BIT;

  // A power of two is twice as far from its upper neighbour as from its lower one.
  const uneven = fraction === 0 && biased > 1;
  const k = uneven ? unevenExponent[biased] : stepExponent[biased];
  const scale = uneven ? unevenScale[biased] : stepScale[biased];
  const power = k - K_MIN;
  const value = scaled(power, 4 * c * scale);
  const lower = scaled(power, (4 * c - (uneven ? 1 : 2)) * scale);
  const upper = scaled(power, (4 * c + 2) * scale);

  // The midpoints themselves read back to the neighbour whose mantissa is even.
  const open = c & 1;
  const step = value >>> 2;
  const tens = Math.imul((step / 10) | 0, 10);
  if (step >= 10 && lower + open <= 4 * tens) keep(tens, k);
  else if (step >= 10 && 4 * (tens + 10) + open <= upper) keep(tens + 10, k);
  else {
    const stepFits = lower + open <= 4 * step;
    const nextFits = 4 * (step + 1) + open <= upper;
    const nearer = value < 4 * step + 2 ? step : step + 1;
    if (stepFits === nextFits) keep(nearer, k);
    else keep(stepFits ? step : step + 1, k);
  }
}

function keep(digits: number, exponent: number): void {
  for (;;) {
    const tenth = (digits / 10) | 0;
    if (Math.imul(tenth, 10) !== digits) break;
    digits = tenth;
    exponent++;
  }
  shortest.digits = digits;
  shortest.exponent = exponent;
}

/**
 * `floor(factor * 10^-k / scale)`, its lowest bit set when something was cut off; below 2^30. A
 * factor is below 2^31, and a part below 2^21, so that each product, with the carry from the part
 * below, is an integer below 2^53.
 */
function scaled(power: number, factor: number): number {
  const low = powerLow[power] * factor;
  const middle = powerMiddle[power] * factor + Math.floor(low * PART_INVERSE);
  const carry = Math.floor(middle * PART_INVERSE);
  const high = powerHigh[power] * factor + carry;
  const whole = Math.floor(high * PART_INVERSE);
  const cutOff = high !== whole * PART || middle - carry * PART >= STICKY_FROM;
  return cutOff ? whole | 1 : whole;
}

function fillSteps(exponents: Int8Array, scales: Float64Array, width: number): void {
  for (let biased = 0; biased < 255; biased++) {
    const q = biased === 0 ? -149 : biased - 150;
    // Neither this nor log2 comes near an integer but at zero, where both are exact.
    const k = Math.floor(Math.log10(width) + q * Math.LOG10E * Math.LN2);
    exponents[biased] = k;
    // The parts hold 10^-k as a fraction of 2^63 that is at least a half.
    scales[biased] = 2 ** (q + log2OfPower(k) + 1);
  }
}

/** floor(log2(10^-k)). */
function log2OfPower(k: number): number {
  return Math.floor(-k * Math.LOG2E * Math.LN10);
}

/** Runs once, when the module is loaded; hence the BigInt. */
function fillPowers(): void {
  for (let k = K_MIN; k <= K_MAX; k++) {
    const numerator = k < 0 ? 10n ** BigInt(-k) : 1n;
    const denominator = k < 0 ? 1n : 10n ** BigInt(k);
    const shift = 62 - log2OfPower(k);
    // An upper bound, as the paper wants it: even where the power is exact, one more than its bits.
    const bits =
      shift >= 0
        ? (numerator << BigInt(shift)) / denominator
        : numerator / (denominator << BigInt(-shift));
    const power = bits + 1n;
    powerLow[k - K_MIN] = Number(power & 0x1fffffn);
    powerMiddle[k - K_MIN] = Number((power >> 21n) & 0x1fffffn);
    powerHigh[k - K_MIN] = Number(power >> 42n);
  }
}
