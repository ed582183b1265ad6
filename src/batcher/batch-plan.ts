import type { Head } from '../backend/backend.ts';

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
 * The lane whose head is due first leads, so nothing is passed over for ever. The batch fills up
 * from that lane, and then from shorter ones, nearest first, while padding their texts to the
 * leader's length costs less than the launch that it saves. A lane joins whole or not at all, so
 * one that could fill a batch alone is left to do so; texts of other heads are left to another
 * batch.
 *
 * @param lanes the lanes that have texts, by ascending `paddedLength`; at least one.
 */
export function planBatch(lanes: readonly LaneView[], limits: PlanLimits): BatchPlan {
  let leader = 0;
  for (let index = 1; index < lanes.length; index++) {
    if (lanes[index].dueMs < lanes[leader].dueMs) leader = index;
  }
  const { paddedLength, heads, textCount } = lanes[leader];
  const tokensMax = heads.includes('multi_vector')
    ? Math.min(limits.batchTokensMax, limits.multiVectorTokensMax)
    : limits.batchTokensMax;
  const capacityByTokens = Math.max(1, Math.floor(tokensMax / paddedLength));
  const capacity = Math.min(limits.batchTextsMax, capacityByTokens);
  const draws = [{ laneIndex: leader, textCount: Math.min(capacity, textCount) }];
  let room = capacity - draws[0].textCount;
  for (let index = leader - 1; index >= 0 && room > 0; index--) {
    const lane = lanes[index];
    if (lane.heads !== heads) continue;
    const paddingEach = paddedLength - lane.paddedLength;
    const savesLaunch = lane.textCount * paddingEach <= limits.launchTokens;
    if (lane.textCount > room || !savesLaunch) continue;
    draws.push({ laneIndex: index, textCount: lane.textCount });
    room -= lane.textCount;
  }
  return { paddedLength, draws };
}
