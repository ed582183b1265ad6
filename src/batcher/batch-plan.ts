/** What a plan may not exceed; a part of `BackendLimits`. */
export interface PlanLimits {
  readonly batchTextsMax: number;
  /** Padded tokens (longest × texts). One text alone may exceed it. */
  readonly batchTokensMax: number;
  /** Padded tokens that cost as much as one more launch. */
  readonly launchTokens: number;
}

/** The waiting texts of one padded length, seen from outside. */
export interface LaneView {
  /** Tokens that each text of the lane is padded to. */
  readonly paddedLength: number;
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
 * Rounds a token count up to one of the 64 shared lengths: eight steps for each doubling from 64 on, so padding within a
 * lane stays below an eighth, and an engine sees few different shapes.
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
 * The lane whose head is due first leads, so nothing is passed over for ever. The batch fills up from that lane, and then
 * from shorter ones, nearest first, while padding their texts to the leader's length costs less than the launch that it
 * saves. A lane that could fill a batch alone is left to do so.
 *
 * @param lanes the lanes that have texts, by ascending `paddedLength`; at least one.
 */
export function planBatch(lanes: readonly LaneView[], limits: PlanLimits): BatchPlan {
  let leader = 0;
  for (let index = 1; index < lanes.length; index++) {
    if (lanes[index].dueMs < lanes[leader].dueMs) leader = index;
  }
  const { paddedLength, textCount } = lanes[leader];
  const capacity = batchCapacity(paddedLength, limits);
  const draws = [{ laneIndex: leader, textCount: Math.min(capacity, textCount) }];
  let room = capacity - draws[0].textCount;
  for (let index = leader - 1; index >= 0 && room > 0; index--) {
    const lane = lanes[index];
    const paddingEach = paddedLength - lane.paddedLength;
    const fillsAlone = lane.textCount >= batchCapacity(lane.paddedLength, limits);
    const savesLaunch =
      lane.textCount <= room && lane.textCount * paddingEach <= limits.launchTokens;
    if (fillsAlone || !savesLaunch) continue;
    draws.push({ laneIndex: index, textCount: lane.textCount });
    room -= lane.textCount;
  }
  return { paddedLength, draws };
}

/** Texts of one padded length that a batch holds: at least one, however long. */
function batchCapacity(paddedLength: number, limits: PlanLimits): number {
  const byTokens = Math.max(1, Math.floor(limits.batchTokensMax / paddedLength));
  return Math.min(limits.batchTextsMax, byTokens);
}
