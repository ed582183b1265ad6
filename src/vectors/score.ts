import type { SparseWeights } from './sparse.ts';

/**
 * Scores of a query against a text, as FlagEmbedding's `BGEM3FlagModel` defines them.
 */

/** Dot product of two rows of equal length; of normalised rows, their cosine. */
export function denseScore(query: Float32Array, text: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < query.length; index++) sum += query[index] * text[index];
  return sum;
}

/** Sum of the products of the weights of shared ids (`compute_lexical_matching_score`). */
export function sparseScore(query: SparseWeights, text: SparseWeights): number {
  const weights = new Map<number, number>();
  for (let at = 0; at < text.indices.length; at++) weights.set(text.indices[at], text.values[at]);
  let sum = 0;
  for (let at = 0; at < query.indices.length; at++) {
    sum += query.values[at] * (weights.get(query.indices[at]) ?? 0);
  }
  return sum;
}

/** Rows of the query taken at once: each number of a text's row is then read once for four. */
const ROWS_AT_ONCE = 4;

/**
 * Mean, over the query's token vectors, of the best dot product with any of the text's
 * (`colbert_score`). Two texts of BGE-M3's full length are 69 thousand million products, a minute's
 * work, so it is done in steps.
 *
 * @param pair.query and `pair.text` are `[tokenCount, dimension]`, row-major, at least one token
 * each; borrowed until the end.
 * @param productsPerStep it yields each time that it has multiplied about so often.
 * @returns the score, once it is done.
 */
export function* multiVectorScore(
  pair: { readonly query: Float32Array; readonly text: Float32Array; readonly dimension: number },
  productsPerStep: number,
): Generator<void, number> {
  const { query, text, dimension } = pair;
  const queryCount = query.length / dimension;
  const textCount = text.length / dimension;
  // Rows past the query's last stay zero and are not counted.
  const rows = new Float64Array(ROWS_AT_ONCE * dimension);
  const best = new Float64Array(ROWS_AT_ONCE);
  const productsPerRow = ROWS_AT_ONCE * dimension;
  let products = 0;
  let sum = 0;
  for (let first = 0; first < queryCount; first += ROWS_AT_ONCE) {
    const count = Math.min(ROWS_AT_ONCE, queryCount - first);
    rows.set(query.subarray(first * dimension, (first + count) * dimension));
    best.fill(Number.NEGATIVE_INFINITY);
    for (let at = 0; at < textCount; at++) {
      raiseBest(best, rows, { text, start: at * dimension, dimension });
      products += productsPerRow;
      if (products < productsPerStep) continue;
      products = 0;
      yield;
    }
    for (let row = 0; row < count; row++) sum += best[row];
  }
  return sum / queryCount;
}

/** Holds one row of the text against four of the query, which halves the time of one by one. */
function raiseBest(
  best: Float64Array,
  rows: Float64Array,
  other: { readonly text: Float32Array; readonly start: number; readonly dimension: number },
): void {
  const { text, start, dimension } = other;
  const second = dimension;
  const third = 2 * dimension;
  const fourth = 3 * dimension;
  // One by one: the engine makes slow code of a sum that was declared in brackets.
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  for (let index = 0; index < dimension; index++) {
    const value = text[start + index];
    a += rows[index] * value;
    b += rows[second + index] * value;
    c += rows[third + index] * value;
    d += rows[fourth + index] * value;
  }
  if (a > best[0]) best[0] = a;
  if (b > best[1]) best[1] = b;
  if (c > best[2]) best[2] = c;
  if (d > best[3]) best[3] = d;
}

/** Weighted mean of the scores that there are (`weights_for_different_modes` over their sum). */
export function weightedScore(scores: readonly number[], weights: readonly number[]): number {
  let sum = 0;
  let weightSum = 0;
  for (let index = 0; index < scores.length; index++) {
    sum += scores[index] * weights[index];
    weightSum += weights[index];
  }
  return sum / weightSum;
}
