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

/**
 * Mean, over the query's token vectors, of the best dot product with any of the text's
 * (`colbert_score`).
 *
 * @param query and `text` are `[tokenCount, dimension]`, row-major; borrowed.
 */
export function multiVectorScore(
  query: Float32Array,
  text: Float32Array,
  dimension: number,
): number {
  const queryCount = query.length / dimension;
  const textCount = text.length / dimension;
  let sum = 0;
  for (let q = 0; q < queryCount; q++) {
    const row = query.subarray(q * dimension, (q + 1) * dimension);
    let best = Number.NEGATIVE_INFINITY;
    for (let t = 0; t < textCount; t++) {
      const score = denseScore(row, text.subarray(t * dimension, (t + 1) * dimension));
      if (score > best) best = score;
    }
    sum += best;
  }
  return sum / queryCount;
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
