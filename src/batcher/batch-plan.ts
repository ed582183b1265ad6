import type { Head } from '../vectors/head.ts';

/** What a plan may not exceed; a part of `BackendLimits`. */
export interface PlanLimits {
  readonly batchTextsMax: number;
  /** Padded tokens (longest × texts). One text alone may exceed it. */
  readonly batchTokensMax: number;
  /** The same for texts that ask for a vector a token. */
  readonly multiVectorTokensMax: number;
  /** Padded tokens that cost as much as one more launch. */
  readonly launchTokens: number;
}

/** The waiting texts of one padded length, seen from outside. */
export interface LaneView {
  /** Tokens that each text of the lane is padded to. */
  readonly paddedLength: number;
  /** Canonical: equal sets are the same array. */
  readonly heads: readonly Head[];
  /** At least one. */
  readonly textCount: number;
  /** When the most urgent text of the lane is due, in ms. */
  readonly dueMs: number;
}

/** How many texts to take from which lane, the most urgent of each first. */
export interface BatchPlan {
  readonly paddedLength: number;
  readonly draws: readonly { readonly laneIndex: number; readonly textCount: number }[];
}

/**
 * Rounds a token count up to one of the 64 shared lengths: eight steps for each doubling from 64
 * on, so padding within a lane stays below an eighth, and an engine sees few different shapes.
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
 * The lane whose head is due first leads, so nothing is passed over for ever. Where it does not
 * fill the batch, others join, nearest first, each whole or not at all: a lane that could fill a
 * batch alone is left to do so, and texts of other heads to another batch. Longer lanes come first,
 * while they make the whole batch longer by no more than a launch: the most urgent text waits no
 * longer for them than they would for a batch of their own. Then shorter ones, while padding their
 * texts costs less than the launch that it saves.
 *
 * @param lanes the lanes that have texts, by ascending `paddedLength`; at least one.
 */
export function planBatch(lanes: readonly LaneView[], limits: PlanLimits): BatchPlan {
  let leader = 0;
  for (let index = 1; index < lanes.length; index++) {
    if (lanes[index].dueMs < lanes[leader].dueMs) leader = index;
  }
  const { heads, textCount } = lanes[leader];
  let { paddedLength } = lanes[leader];
  let capacity = capacityOf(paddedLength, heads, limits);
  let drawnCount = Math.min(capacity, textCount);
  const draws = [{ laneIndex: leader, textCount: drawnCount }];
  const join = (laneIndex: number): void => {
    draws.push({ laneIndex, textCount: lanes[laneIndex].textCount });
    drawnCount += lanes[laneIndex].textCount;
  };
  const tokensMax = drawnCount * paddedLength + limits.launchTokens;
  for (let index = leader + 1; index < lanes.length && drawnCount < capacity; index++) {
    const lane = lanes[index];
    if (lane.heads !== heads) continue;
    const count = drawnCount + lane.textCount;
    if (count * lane.paddedLength > tokensMax) break;
    const capacityThere = capacityOf(lane.paddedLength, heads, limits);
    if (count > capacityThere) break;
    join(index);
    paddedLength = lane.paddedLength;
    capacity = capacityThere;
  }
  for (let index = leader - 1; index >= 0 && drawnCount < capacity; index--) {
    const lane = lanes[index];
    if (lane.heads !== heads || drawnCount + lane.textCount > capacity) continue;
    const padding = lane.textCount * (paddedLength - lane.paddedLength);
    if (padding <= limits.launchTokens) join(index);
  }
  return { paddedLength, draws };
}

/** Texts that fit a batch of this padded length; one always does. */
function capacityOf(paddedLength: number, heads: readonly Head[], limits: PlanLimits): number {
  const fitting = Math.max(1, Math.floor(tokensMaxOf(heads, limits) / paddedLength));
  return Math.min(limits.batchTextsMax, fitting);
}

/** Padded tokens that a batch with these heads may have. */
export function tokensMaxOf(heads: readonly Head[], limits: PlanLimits): number {
  return heads.includes('multi_vector')
    ? Math.min(limits.batchTokensMax, limits.multiVectorTokensMax)
    : limits.batchTokensMax;
}
