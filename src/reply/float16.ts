/**
 * Converts float32 to float16, rounding to nearest, ties to even; as IEEE 754 has it, overflow becomes infinity and NaN
 * stays NaN. `Float16Array.set` does the same five times slower (`scripts/bench/reply-bench.ts`): our tests hold us to it.
 *
 * @param values borrowed.
 * @param target receives the patterns, from its first element on; at least as long as `values`.
 */
export function writeFloat16(values: Float32Array, target: Uint16Array): void {
  const patterns = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let index = 0; index < patterns.length; index++) {
    const bits = patterns[index];
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude >= SMALLEST_NORMAL && magnitude < TOO_LARGE) {
      // Moves the exponent's bias, and adds just under a half of the last bit that stays; a carry raises the exponent.
      const odd = (magnitude >>> 13) & 1;
      target[index] = sign | ((magnitude - BIAS_CHANGE + 0xfff + odd) >>> 13);
    } else {
      target[index] = sign | oddPatternOf(magnitude);
    }
  }
}

/** 2^-14, the smallest normal float16. */
const SMALLEST_NORMAL = 0x38800000;
/** 65,520, the first value that rounds to infinity. */
const TOO_LARGE = 0x477ff000;
/** (127 - 15) in the place of a float32's exponent. */
const BIAS_CHANGE = 0x38000000;
const INFINITY_32 = 0x7f800000;
const INFINITY_16 = 0x7c00;
const QUIET_NAN_16 = 0x7e00;

/** What is subnormal in float16, or too large for it. */
function oddPatternOf(magnitude: number): number {
  if (magnitude > INFINITY_32) return QUIET_NAN_16;
  if (magnitude >= TOO_LARGE) return INFINITY_16;
  // A subnormal float16 counts steps of 2^-24. Below 2^-25 nothing is left; 2^-25 itself is a tie with zero, the even one.
  const biased = magnitude >>> 23;
  if (biased < 127 - 25) return 0;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const shift = 127 - 1 - biased;
  const steps = mantissa >>> shift;
  const rest = mantissa - (steps << shift);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (steps & 1) === 1) ? steps + 1 : steps;
}
