import smoothing from './e5-smoothing.json';

/**
 * How many steps of a divisor's exponent make a factor of two: neighbours are 9 % apart, and the
 * best exponent of all is not known more exactly than that.
 */
const STEPS_PER_OCTAVE = 8;
/** The byte that stands for one. */
const BYTE_OF_ONE = 128;

/**
 * By what the input of a matrix product is divided, channel by channel, before it is quantized
 * (SmoothQuant): a few channels of this model are fifty times as large as the others, and all share
 * one scale. The matrix is multiplied by the same numbers, so that the product stays what it was.
 *
 * The numbers come of what the float32 model computes for some hundred texts, by
 * `scripts/ci/generate-e5-smoothing.ts`; they are data, so that every set-up builds the same file.
 *
 * @param input the name of the tensor that is divided.
 * @returns one divisor a channel; owned by the caller.
 */
export function divisorsOf(input: string): Float32Array {
  const text = (smoothing.divisors as Readonly<Record<string, string>>)[input];
  if (text === undefined) throw new Error(`e5-smoothing.json has no divisors for "${input}"`);
  const bytes = Buffer.from(text, 'base64');
  return Float32Array.from(bytes, (byte) => 2 ** ((byte - BYTE_OF_ONE) / STEPS_PER_OCTAVE));
}

/** The inverse of `divisorsOf`: what the file holds for some divisors. */
export function encodeDivisors(divisors: ArrayLike<number>): string {
  const bytes = Uint8Array.from(divisors, (divisor) => {
    const steps = Math.round(Math.log2(divisor) * STEPS_PER_OCTAVE);
    return Math.min(255, Math.max(0, BYTE_OF_ONE + steps));
  });
  return Buffer.from(bytes).toString('base64');
}
