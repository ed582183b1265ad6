import { TokenizerUnsupportedError } from '../tokenizer-error.ts';

/** Powers of ten as the nearest doubles. */
const POWERS = Array.from({ length: 309 }, (_, exponent) => Number(`1e${exponent}`));

/** The largest integer of the reference's reader. */
const UINT64_MAX = '18446744073709551615';

/**
 * Reads a JSON number as the reference does, which is not always the nearest double. Its reader
 * (serde_json without `float_roundtrip`) rounds the digits to a double, then divides by a power of
 * ten, which rounds again. The last bit of a score can decide between two ways to cut a word that
 * would otherwise tie.
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
  while (kept > 0 && !fitsUint64(whole + fraction.slice(0, kept))) kept--;
  let exponent = Number(exponentText) - kept;
  let value = Number(whole + fraction.slice(0, kept));
  if (exponent < -308) {
    value /= 1e308;
    exponent += 308;
  }
  const power = POWERS[Math.abs(exponent)] ?? Number.POSITIVE_INFINITY;
  value = exponent >= 0 ? value * power : value / power;
  return isNegative ? -value : value;
}

function fitsUint64(digits: string): boolean {
  if (digits.length < UINT64_MAX.length) return true;
  const significant = digits.replace(/^0+/, '');
  if (significant.length !== UINT64_MAX.length) return significant.length < UINT64_MAX.length;
  return significant <= UINT64_MAX;
}

/**
 * The scores of a vocabulary as the reference reads them, from their digits in the file. A regular
 * expression finds the numbers that close an entry: the source text that `JSON.parse` can give with
 * each number takes ten times as long.
 *
 * @param text the whole `tokenizer.json`.
 * @param scores as `JSON.parse` reads them; borrowed.
 * @throws TokenizerUnsupportedError when other entries stand between, so that the digits cannot be
 *   told apart.
 */
export function rereadScores(text: string, scores: Float64Array): Float64Array {
  const reread = new Float64Array(scores.length);
  let id = 0;
  for (const [, source = ''] of text.matchAll(/,\s*(-?\d[-+.\deE]*)\s*\]/g)) {
    if (Number(source) !== scores[id]) break;
    reread[id++] = parseReferenceNumber(source);
  }
  if (id !== scores.length) {
    throw new TokenizerUnsupportedError(`model.vocab[${id}]: the digits of its score`);
  }
  return reread;
}
