import { invariant } from '../base/invariant.ts';

/**
 * The shortest decimal of any finite float32, by Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles",
 * 2020). `float32-json.ts` writes most values of an embedding by a shorter way; all others come here.
 *
 * A value is `c * 2^q`. Everything between its two neighbours' midpoints reads back to it. Choose k so that this interval
 * is 1 to 10 steps of `10^k` wide (a bit less at a power of two): then at most one multiple of `10^(k+1)` lies in it, and
 * if one does, it is the shortest decimal once its zeros are stripped; if none does, the nearest multiple of `10^k` is.
 *
 * All comparisons are made on four times the value in units of `10^k`, as an integer part plus a sticky bit: the 63-bit
 * approximation of `10^-k` is close enough for float32 that these never lie (section 9 of the paper; and
 * `scripts/sim/float32-json-sim.ts` has tried each of the 2^32 patterns). JavaScript has no 64-bit integers that are
 * fast, so that the power is kept as three parts of 21 bits: a part times a factor below 2^32 is exact in a double.
 */

/** The decimal that was found last: `digits * 10^exponent`, no zeros at the end. Here, so that nothing is allocated. */
export const shortest = { digits: 0, exponent: 0 };

const MANTISSA_BITS = 23;
const HIDDEN_BIT = 1 << MANTISSA_BITS;
const PART = 2 ** 21;
/** A factor below 2^32 times a power below 2^63, less these bits, leaves four times the value in units of `10^k`. */
const STICKY_FROM = 2 ** 11;

/** The exponents k that a finite float32 can need: 2^-149 is 1.4e-45, the largest binade has steps of 2^104 = 2.0e31. */
const K_MIN = -46;
const K_MAX = 31;

const powerHigh = new Float64Array(K_MAX - K_MIN + 1);
const powerMiddle = new Float64Array(K_MAX - K_MIN + 1);
const powerLow = new Float64Array(K_MAX - K_MIN + 1);
/** floor(log2(10^-k)). */
const powerLog2 = new Int16Array(K_MAX - K_MIN + 1);
fillPowers();

/**
 * Finds the shortest decimal that reads back to a float32, of those the nearest to it, and leaves it in `shortest`.
 *
 * @param bits the value's pattern. Its sign is ignored; neither zero nor non-finite.
 */
export function findShortest(bits: number): void {
  const biased = (bits >>> MANTISSA_BITS) & 0xff;
  const fraction = bits & (HIDDEN_BIT - 1);
  invariant(biased !== 0xff, 'A value that is not finite has no decimal.');
  const c = biased === 0 ? fraction : fraction | HIDDEN_BIT;
  const q = biased === 0 ? -149 : biased - 150;

  // A power of two is twice as far from its upper neighbour as from its lower one.
  const uneven = fraction === 0 && biased > 1;
  const k = Math.floor(Math.log10(uneven ? 0.75 : 1) + q * Math.LOG10E * Math.LN2);
  const power = k - K_MIN;
  const scale = 2 ** (q + (powerLog2[power] ?? 0) + 1);
  const value = scaled(power, 4 * c * scale);
  const lower = scaled(power, (4 * c - (uneven ? 1 : 2)) * scale);
  const upper = scaled(power, (4 * c + 2) * scale);

  // The midpoints themselves read back to the neighbour whose mantissa is even.
  const open = c & 1;
  const step = Math.floor(value / 4);
  const tens = step - (step % 10);
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
  while (digits % 10 === 0) {
    digits /= 10;
    exponent++;
  }
  shortest.digits = digits;
  shortest.exponent = exponent;
}

/** `floor(factor * power / 2^63)`, its lowest bit set when something was cut off. */
function scaled(power: number, factor: number): number {
  const low = (powerLow[power] ?? 0) * factor;
  const middle = (powerMiddle[power] ?? 0) * factor + Math.floor(low / PART);
  const high = (powerHigh[power] ?? 0) * factor + Math.floor(middle / PART);
  const whole = Math.floor(high / PART);
  const sticky = high !== whole * PART || middle % PART >= STICKY_FROM;
  return sticky ? whole | 1 : whole;
}

/** Runs once, when the module is loaded; hence the BigInt. */
function fillPowers(): void {
  for (let k = K_MIN; k <= K_MAX; k++) {
    // 10^-k as a fraction, then the 63 highest bits of it, plus one: an upper bound, as the paper wants it.
    const numerator = k < 0 ? 10n ** BigInt(-k) : 1n;
    const denominator = k < 0 ? 1n : 10n ** BigInt(k);
    const log2 = Math.floor(-k * Math.LOG2E * Math.LN10);
    const shift = 62 - log2;
    const bits =
      shift >= 0
        ? (numerator << BigInt(shift)) / denominator
        : numerator / (denominator << BigInt(-shift));
    const power = bits + 1n;
    powerLow[k - K_MIN] = Number(power & 0x1fffffn);
    powerMiddle[k - K_MIN] = Number((power >> 21n) & 0x1fffffn);
    powerHigh[k - K_MIN] = Number(power >> 42n);
    powerLog2[k - K_MIN] = log2;
  }
}
