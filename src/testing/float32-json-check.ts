/**
 * Holds JSON numbers against the float32 patterns that they were written for. Shares nothing with
 * the writer: it asks the engine's own parser and printer, and for the few decimals that a double
 * cannot tell apart it counts in BigInt.
 */

const single = new Float32Array(1);
const singleBits = new Uint32Array(single.buffer);

/** The first pattern above the largest finite float32. */
const INFINITY_BITS = 0x7f800000;

/**
 * Checks that numbers read back to their float32: by `Math.fround(JSON.parse(…))`, and by a parser
 * that rounds to float32 at once. For the second, the decimal must lie between the midpoints to
 * both neighbours. Where the double lies strictly between them, so does the decimal; where it falls
 * on one, only exact arithmetic can say.
 *
 * @param patterns finite float32, as they lie in memory.
 * @param source the numbers with commas between them.
 * @returns the first fault in words, or nothing.
 */
export function faultOfReading(patterns: Uint32Array, source: string): string | undefined {
  const numbers: number[] = JSON.parse(`[${source}]`);
  if (numbers.length !== patterns.length) return `${numbers.length} numbers were written`;
  let tokens: string[] | undefined;
  for (let index = 0; index < numbers.length; index++) {
    const bits = patterns[index];
    const number = numbers[index];
    single[0] = number;
    if (singleBits[0] !== bits) return faultAt(bits, `reads back as ${single[0]}`);
    const magnitude = bits & 0x7fffffff;
    const distance = Math.abs(number);
    if (magnitude === 0) continue;
    const value = magnitudeOf(magnitude);
    const lower = (value + magnitudeOf(magnitude - 1)) / 2;
    const upper = (value + magnitudeOf(magnitude + 1)) / 2;
    if (distance > lower && distance < upper) continue;
    tokens ??= source.split(',');
    const token = tokens[index];
    if (!isInside(token, { lower, upper, isClosed: magnitude % 2 === 0 })) {
      return faultAt(bits, `was written as ${token}, which is not nearest to it`);
    }
  }
  return undefined;
}

/**
 * Checks that no decimal with fewer digits reads back to the value, and that none with as many is
 * nearer to it.
 *
 * @param bits a finite float32.
 * @param token the number that was written for it.
 */
export function faultOfLength(bits: number, token: string): string | undefined {
  const magnitude = bits & 0x7fffffff;
  if (magnitude === 0) return undefined;
  const value = magnitudeOf(magnitude);
  const digits = digitsOf(token);
  if (digits.length > 1) {
    // With one digit less, the two decimals around the value; and one more on either side, as the
    // printer rounds.
    const [mantissa, exponent] = value.toExponential(digits.length - 2).split('e');
    const nearest = Number(mantissa.replace('.', ''));
    for (const candidate of [nearest - 1, nearest, nearest + 1]) {
      const shorter = `${candidate}e${Number(exponent) - digits.length + 2}`;
      if (Math.fround(Number(shorter)) === value) return faultAt(bits, `${token}: ${shorter} does`);
    }
  }
  const nearest = value.toExponential(digits.length - 1);
  if (Math.fround(Number(nearest)) === value && digitsOf(nearest) !== digits) {
    return faultAt(bits, `${token}: ${nearest} is nearer`);
  }
  return undefined;
}

/**
 * The value of a positive pattern; that after the largest finite one is 2^128, where the next
 * float32 would be.
 */
function magnitudeOf(pattern: number): number {
  if (pattern === INFINITY_BITS) return 2 ** 128;
  singleBits[0] = pattern;
  return single[0];
}

/** The significant digits of a decimal: no sign, point, exponent, nor zeros at either end. */
function digitsOf(token: string): string {
  return token
    .replace(/e.*$/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+|0+$/g, '');
}

/** Whether a decimal's magnitude lies between two doubles, exactly. */
function isInside(
  token: string,
  { lower, upper, isClosed }: { lower: number; upper: number; isClosed: boolean },
): boolean {
  const [mantissa, exponent = '0'] = token.replace('-', '').split('e');
  const [whole, fraction = ''] = mantissa.split('.');
  const decimal = { digits: BigInt(whole + fraction), power: Number(exponent) - fraction.length };
  const above = compare(decimal, lower);
  const below = compare(decimal, upper);
  return isClosed ? above >= 0n && below <= 0n : above > 0n && below < 0n;
}

/** Below, at or above zero as `digits * 10^power` is below, at or above `double`. */
function compare({ digits, power }: { digits: bigint; power: number }, double: number): bigint {
  // Every midpoint of two float32 is a whole number of 2^-150.
  const scaledDouble = BigInt(double * 2 ** 75 * 2 ** 75);
  const scaledDecimal = digits << 150n;
  return power >= 0
    ? scaledDecimal * 10n ** BigInt(power) - scaledDouble
    : scaledDecimal - scaledDouble * 10n ** BigInt(-power);
}

function faultAt(bits: number, what: string): string {
  return `pattern 0x${bits.toString(16).padStart(8, '0')}: ${what}`;
}
