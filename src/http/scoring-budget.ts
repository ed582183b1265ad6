import { ServerError } from '../base/errors.ts';
import { retryAfterMsOf } from '../base/retry-after.ts';

/**
 * Multiplications of multi-vectors in a ms: 0.8 to 1.02 million were measured with rows of 1,024
 * numbers, on one core of a shared 2-core machine.
 */
export const PRODUCTS_PER_MS = 1_000_000;

/**
 * The share of a request's timeout that scoring may take. The rest is for encoding, and for other
 * work that the thread does between two slices.
 */
const SCORING_SHARE = 0.5;

/** What scoring a request takes. */
export interface ScoringWork {
  /** Float32 numbers of all its vectors. */
  readonly valueCount: number;
  /** Multiplications of its multi-vectors. */
  readonly productCount: number;
  /** How long its caller waits. */
  readonly timeoutMs: number;
}

/** Bounds the memory and the time of all requests that are being scored. */
export interface ScoringBudget {
  /**
   * Takes a share for a request, from before its vectors are computed until its scores are.
   *
   * @returns gives the share back; called once.
   * @throws ServerError EMB_REPLY_TOO_LARGE when it would take too long alone; EMB_QUEUE_FULL when it
   * would be too much beside the others.
   */
  take(work: ScoringWork): () => void;
}

/**
 * The queue counts tokens, a few bytes each; a vector for each token is a few hundred times that.
 * So scoring has a bound of its own, and a request that cannot be scored in time is refused before
 * a GPU works for it. An unused budget takes any vectors.
 */
export function createScoringBudget(options: { readonly scoringBytesMax: number }): ScoringBudget {
  const valueCountMax = Math.floor(options.scoringBytesMax / 4);
  let requestCount = 0;
  let valueCount = 0;
  let productCount = 0;

  function take(work: ScoringWork): () => void {
    refuseLong(work);
    if (requestCount > 0) refuseBeside(work);
    requestCount++;
    valueCount += work.valueCount;
    productCount += work.productCount;
    return () => {
      requestCount--;
      valueCount -= work.valueCount;
      productCount -= work.productCount;
    };
  }

  function refuseBeside(work: ScoringWork): void {
    const values = valueCount + work.valueCount;
    if (values > valueCountMax) {
      throw full('numbers to score', { limit: valueCountMax, value: values, productCount });
    }
    // Requests are scored a slice each in turn: a small one is not behind all of a large one.
    const alike = work.productCount * (requestCount + 1);
    const ahead = Math.min(productCount + work.productCount, alike);
    const value = Math.ceil(ahead / PRODUCTS_PER_MS);
    const limit = Math.floor(work.timeoutMs * SCORING_SHARE);
    if (value > limit) throw full('ms of scoring', { limit, value, productCount });
  }

  return { take };
}

function refuseLong({ productCount, timeoutMs }: ScoringWork): void {
  const limit = Math.floor(timeoutMs * SCORING_SHARE) * PRODUCTS_PER_MS;
  if (productCount <= limit) return;
  throw new ServerError(
    'EMB_REPLY_TOO_LARGE',
    `Scoring these texts takes ${productCount} multiplications, the limit is ${limit} in ` +
      `${timeoutMs} ms. Send fewer or shorter texts, or leave out multi_vector.`,
    { field: 'texts', limit, value: productCount },
  );
}

/** When to come back: once half of what was there before it is done. */
function full(
  unit: string,
  { limit, value, productCount }: { limit: number; value: number; productCount: number },
): ServerError {
  const retryAfterMs = retryAfterMsOf(productCount / PRODUCTS_PER_MS / 2);
  return new ServerError(
    'EMB_QUEUE_FULL',
    `Too much is being scored: ${value} ${unit}, the limit is ${limit}. ` +
      `Come back in ${retryAfterMs} ms.`,
    { limit, value, retryAfterMs },
  );
}
