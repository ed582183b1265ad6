import { invariant } from '../base/invariant.ts';

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
export const shortest = { digits: 0, exponent: 0 };

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
export function findShortest(bits: number): void {
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
