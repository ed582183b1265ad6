/** Powers of ten as the nearest doubles. */
const POWERS = Array.from({ length: 309 }, (_, exponent) => Number(`1e${exponent}`));

const UINT64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * Reads a JSON number as the reference does, which is not always the nearest double: its reader
 * (serde_json without `float_roundtrip`) rounds the digits to a double and then divides by a power
 * of ten, which rounds again. A score that is off in its last bit decides between two equally good
 * ways to cut a word.
 *
 * @param source a number as it stands in the file.
 */
export function parseReferenceNumber(source: string): number {
  const [mantissa = '', exponentText = '0'] = source.toLowerCase().split('e');
  const isNegative = mantissa.startsWith('-');
  const [whole = '', fraction = ''] = (isNegative ? mantissa.slice(1) : mantissa).split('.');
  // Digits of the fraction that no longer fit into 64 bits are dropped. (A whole part that long is
  // no score.)
  let kept = fraction.length;
  while (kept > 0 && BigInt(whole + fraction.slice(0, kept)) > UINT64_MAX) kept--;
  let exponent = Number(exponentText) - kept;
  let value = Number(BigInt(whole + fraction.slice(0, kept)));
  if (exponent < -308) {
    value /= 1e308;
    exponent += 308;
  }
  const power = POWERS[Math.abs(exponent)] ?? Number.POSITIVE_INFINITY;
  value = exponent >= 0 ? value * power : value / power;
  return isNegative ? -value : value;
}
