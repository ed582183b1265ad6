import { type ProfileShape, textsOfLength } from '../model/engine-profiles.ts';
import type { Head } from '../vectors/head.ts';

/** What a plan may not exceed; a part of `BackendLimits`. */
export interface PlanLimits {
  readonly batchTextsMax: number;
  /** Padded tokens (longest × texts). One text alone may exceed it. */
  readonly batchTokensMax: number;
  /** The same for texts that ask for a vector a token. */
  readonly multiVectorTokensMax: number;
  readonly profiles?: readonly ProfileShape[];
  /** Padded tokens that cost as much as one more launch. */
  readonly launchTokens: number;
}

/** A length bucket as a plan sees it: waiting texts of one padded length and one set of heads. */
export interface BucketView {
  /** Tokens that each text of the bucket is padded to. */
  readonly paddedLength: number;
  /** Canonical: equal sets are the same array. */
  readonly heads: readonly Head[];
  /** At least one. */
  readonly textCount: number;
  /** The earliest virtual deadline in the bucket, in ms. */
  readonly dueMs: number;
}

/** How many texts to take from which bucket, the most urgent of each first. */
export interface BatchPlan {
  readonly paddedLength: number;
  readonly draws: readonly { readonly bucketIndex: number; readonly textCount: number }[];
}

/**
 * Rounds a token count up to one of the 64 shared lengths: eight steps for each doubling from 64
 * on, so padding within a bucket stays below an eighth, and an engine sees few different shapes.
 *
 * @param tokenCount at least 1.
 */
export function paddedLengthOf(tokenCount: number): number {
  if (tokenCount <= 64) return (tokenCount + 7) & ~7;
  const step = 1 << (28 - Math.clz32(tokenCount - 1));
  return Math.ceil(tokenCount / step) * step;
}

/**
 * Decides the next batch. Pure.
 *
 * 1. The bucket with the earliest deadline leads, so no text waits for ever.
 * 2. If it does not fill the batch, others with the same heads join, nearest length first, each
 *    whole or not at all. A bucket that could fill a batch alone is left to do so.
 * 3. Longer buckets come first, while `textCount × paddedLength` grows by at most `launchTokens`:
 *    the leader's texts then wait no longer than they would for a batch of their own.
 * 4. Shorter buckets follow, while their padding costs at most `launchTokens`, which is what a
 *    launch of their own would cost.
 *
 * @param buckets those that have texts, by ascending `paddedLength`; at least one.
 */
export function planBatch(buckets: readonly BucketView[], limits: PlanLimits): BatchPlan {
  let leader = 0;
  for (let index = 1; index < buckets.length; index++) {
    if (buckets[index].dueMs < buckets[leader].dueMs) leader = index;
  }
  const { heads, textCount } = buckets[leader];
  let { paddedLength } = buckets[leader];
  let capacity = capacityOf(paddedLength, heads, limits);
  let drawnCount = Math.min(capacity, textCount);
  const draws = [{ bucketIndex: leader, textCount: drawnCount }];
  const join = (bucketIndex: number): void => {
    draws.push({ bucketIndex, textCount: buckets[bucketIndex].textCount });
    drawnCount += buckets[bucketIndex].textCount;
  };
  const tokensMax = drawnCount * paddedLength + limits.launchTokens;
  for (let index = leader + 1; index < buckets.length && drawnCount < capacity; index++) {
    const bucket = buckets[index];
    if (bucket.heads !== heads) continue;
    const count = drawnCount + bucket.textCount;
    if (count * bucket.paddedLength > tokensMax) break;
    const capacityThere = capacityOf(bucket.paddedLength, heads, limits);
    if (count > capacityThere) break;
    join(index);
    paddedLength = bucket.paddedLength;
    capacity = capacityThere;
  }
  for (let index = leader - 1; index >= 0 && drawnCount < capacity; index--) {
    const bucket = buckets[index];
    if (bucket.heads !== heads || drawnCount + bucket.textCount > capacity) continue;
    const padding = bucket.textCount * (paddedLength - bucket.paddedLength);
    if (padding <= limits.launchTokens) join(index);
  }
  return { paddedLength, draws };
}

/** Texts that fit a batch of this padded length; one always does. */
function capacityOf(paddedLength: number, heads: readonly Head[], limits: PlanLimits): number {
  const fitting = Math.max(1, Math.floor(tokensMaxOf(heads, limits) / paddedLength));
  const countMax = Math.min(limits.batchTextsMax, fitting);
  const { profiles = [] } = limits;
  if (profiles.length === 0) return countMax;
  return Math.min(countMax, Math.max(1, textsOfLength(profiles, paddedLength)));
}

/** Padded tokens that a batch with these heads may have. */
export function tokensMaxOf(heads: readonly Head[], limits: PlanLimits): number {
  return heads.includes('multi_vector')
    ? Math.min(limits.batchTokensMax, limits.multiVectorTokensMax)
    : limits.batchTokensMax;
}
