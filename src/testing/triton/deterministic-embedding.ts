/** The fake engine keeps a table of this many rows for its constant-time kind. */
const TRIVIAL_ROW_COUNT = 997;

/**
 * Base and prime of each hash. Primes just under 2**20: a product of two residues stays far under
 * 2**53.
 */
const HASHES = [
  [31, 1_048_573],
  [37, 1_048_571],
  [41, 1_048_559],
  [43, 1_048_549],
] as const;
/** Numbers of a row are residues of this prime, shifted so that they lie about zero. */
const ROW_PRIME = 8191;
const ROW_SHIFT = 4095;

/**
 * The row that the deterministic and the timed fake give to a text, computed here anew:
 * Horner's rule on doubles, where the fake multiplies integer matrices. Equal to the last bit,
 * because every step but the last three is an exact integer, and square root, division and rounding
 * to float32 are exact by IEEE 754.
 *
 * @param tokenIds the unmasked ids in order, special tokens included, not negative; borrowed.
 * @returns `[dimension]`, norm 1; owned by the caller.
 */
export function deterministicEmbedding(
  tokenIds: Iterable<number>,
  dimension: number,
): Float32Array<ArrayBuffer> {
  const ids = [...tokenIds].reverse();
  const coefficients = HASHES.map(([base, prime]) => {
    let hash = 0;
    for (const id of ids) hash = (hash * base + (id % prime) + 1) % prime;
    return hash % ROW_PRIME;
  }).reverse();

  const values = Array.from({ length: dimension }, (_, index) => {
    const x = (index + 1) % ROW_PRIME;
    let value = 0;
    for (const coefficient of coefficients) value = ((value + coefficient) * x) % ROW_PRIME;
    return value - ROW_SHIFT;
  });
  const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
  return Float32Array.from(values, (value) => value / norm);
}

/** The row of the constant-time fake; arguments and result as of `deterministicEmbedding`. */
export function trivialEmbedding(
  tokenIds: Iterable<number>,
  dimension: number,
): Float32Array<ArrayBuffer> {
  let sum = 0;
  for (const id of tokenIds) sum += id;
  return deterministicEmbedding([sum % TRIVIAL_ROW_COUNT], dimension);
}
