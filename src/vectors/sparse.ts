/** Ids of XLM-R that carry no word: `<s>`, `<pad>`, `</s>`, `<unk>`. Their weights are dropped. */
const LAST_SPECIAL_ID = 3;

/** A text's lexical weights: distinct token ids and the weight of each. Parallel arrays. */
export interface SparseWeights {
  readonly indices: Int32Array;
  readonly values: Float32Array;
}

/**
 * Joins the weights of a text's tokens: for each distinct id the largest, without special ids and
 * without weights that are not positive; by ascending id.
 *
 * Source: `_process_token_weights` of FlagEmbedding's `BGEM3FlagModel`.
 *
 * @param ids token ids of one text; borrowed.
 * @param weights one for each id; borrowed.
 */
export function joinTokenWeights(ids: Int32Array, weights: Float32Array): SparseWeights {
  const best = new Map<number, number>();
  for (let index = 0; index < ids.length; index++) {
    const id = ids[index];
    const weight = weights[index];
    if (id <= LAST_SPECIAL_ID || !(weight > 0)) continue;
    if (weight > (best.get(id) ?? 0)) best.set(id, weight);
  }
  const indices = Int32Array.from(best.keys()).sort();
  return { indices, values: Float32Array.from(indices, (id) => best.get(id) ?? 0) };
}

/**
 * Says what is wrong with the weights of a text's tokens, or nothing. The graph ends in a ReLU:
 * none is negative.
 */
export function faultOfWeights(weights: Float32Array): string | undefined {
  for (let index = 0; index < weights.length; index++) {
    if (!(weights[index] >= 0 && weights[index] < Number.POSITIVE_INFINITY)) {
      return 'has a token weight that is negative or not finite';
    }
  }
  return undefined;
}
