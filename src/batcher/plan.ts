import { type ProfileShape, textsOfLength } from '../model/engine-profiles.ts';
import type { Head } from '../vectors/output.ts';

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
  /** Length at which attention costs as much as the rest of a token; unless told, it is free. */
  readonly lengthTokens?: number;
  /**
   * What the texts of the batch may cost together, in tokens of a short text; one text alone may
   * exceed it. Unless told, what a full batch does.
   */
  readonly costMax?: number;
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

/**
 * How many texts to take from which bucket, the most urgent of each first; the bucket with the
 * earliest deadline comes first, if it is among them.
 */
export interface BatchPlan {
  readonly paddedLength: number;
  /** Whether the most urgent text stays behind, for a batch that is filled better. */
  readonly isPassing: boolean;
  readonly draws: readonly { readonly bucketIndex: number; readonly textCount: number }[];
}

/**
 * Rounds a token count up to one of the 272 shared lengths: any up to 64, multiples of four up to
 * 128, and from there on 32 steps for each doubling, which keeps padding below a thirty-second. An
 * engine with dynamic shapes takes any. Multiples of four alone padded a tenth of all that a load
 * of queries computes: a query of mean length has 17 tokens.
 *
 * @param tokenCount at least 1.
 */
export function paddedLengthOf(tokenCount: number): number {
  if (tokenCount <= 64) return tokenCount;
  if (tokenCount <= 128) return (tokenCount + 3) & ~3;
  const step = 1 << (26 - Math.clz32(tokenCount - 1));
  return Math.ceil(tokenCount / step) * step;
}

/**
 * Batches to each side of the leader that a plan looks at: where the cut begins no longer matters
 * two batches further on.
 */
const WINDOW_BATCHES = 3;
/** Places in a cut, for one text each or, where there are more, for several: it bounds its time. */
const PLACES_MAX = 512;
/**
 * A batch with longer texts costs at most so many times what its texts would cost at the leader's
 * length, and a launch. 1 gave away one per cent of tokens/s, 4 gained 0.3 (mixed load of
 * `testing/simulation/schedule-load.ts`).
 */
const GROWTH_MAX = 1.5;

/** A batch of the leader that is filled so well is not worth putting off. */
const FILL_WANTED = 0.97;
/**
 * So many batches in a row may leave before the most urgent text's. Of queries at saturation, 3
 * filled 94.8 % and 7 fill 95.0; 99 % of them wait 1.2 times as long as with 0, half of them 0.93.
 */
export const PASSES_MAX = 7;

/**
 * Decides the next batch. Pure.
 *
 * 1. The bucket with the earliest deadline leads, so no text waits for ever. If it fills a batch,
 *    that is the batch.
 * 2. Otherwise the texts around it, with the same heads and sorted by length, are cut into the
 *    batches that cost least together, as a clairvoyant would cut them. The one with most of the
 *    leader's texts leaves.
 * 3. Longer texts than the leader's stay behind where the batch would cost more than `GROWTH_MAX`
 *    allows: a query must not wait for pages, however little they would share.
 * 4. In a crowd, another batch of these texts goes first where it is filled better and costs no
 *    more: meanwhile texts of the leader's length come in.
 *
 * @param buckets those that have texts, by ascending `paddedLength`; at least one.
 * @param mayPass whether the most urgent text may stay behind.
 */
export function planBatch(
  buckets: readonly BucketView[],
  planLimits: PlanLimits,
  mayPass = false,
): BatchPlan {
  const waitingCount = buckets.reduce((sum, bucket) => sum + bucket.textCount, 0);
  const isCrowd = waitingCount >= CROWD_BATCHES * planLimits.batchTextsMax;
  const limits = { ...planLimits, isCrowd };
  let leader = 0;
  for (let index = 1; index < buckets.length; index++) {
    if (buckets[index].dueMs < buckets[leader].dueMs) leader = index;
  }
  const { paddedLength, textCount } = buckets[leader];
  const capacity = capacityOf(buckets[leader], limits);
  if (textCount >= capacity) {
    return {
      paddedLength,
      isPassing: false,
      draws: [{ bucketIndex: leader, textCount: capacity }],
    };
  }
  const row = rowAround(buckets, leader, limits);
  const { from, to } = batchOfLeader(row, leader, cutRow(row, buckets, limits));
  const end = withoutDearOnes({ row, from, to, buckets, leader, limits });
  const own = { from, to: end };
  const run = mayPass && isCrowd ? bestFilled(own, { row, buckets, limits }) : own;
  return planOfRun(run, { row, buckets, leader });
}

function planOfRun(
  { from, to }: Run,
  { row, buckets, leader }: { row: TextRow; buckets: readonly BucketView[]; leader: number },
): BatchPlan {
  const counts = new Map<number, number>();
  const isPassing = !row.places.slice(from, to).includes(leader);
  if (!isPassing) counts.set(leader, 0);
  for (let place = from; place < to; place++) {
    const bucketIndex = row.places[place];
    // The last place of a bucket may stand for fewer texts.
    const textCount = (counts.get(bucketIndex) ?? 0) + row.textsPerPlace;
    counts.set(bucketIndex, Math.min(textCount, buckets[bucketIndex].textCount));
  }
  const draws = [...counts].map(([bucketIndex, textCount]) => ({ bucketIndex, textCount }));
  return { paddedLength: buckets[row.places[to - 1]].paddedLength, isPassing, draws };
}

/** Texts around the leader by ascending length: the bucket of each place. */
interface TextRow {
  readonly places: readonly number[];
  readonly textsPerPlace: number;
}

/** The places of a batch: `to` is the first that is not in it. */
interface Run {
  readonly from: number;
  readonly to: number;
}

function rowAround(buckets: readonly BucketView[], leader: number, limits: Bounds): TextRow {
  const { heads } = buckets[leader];
  const sideMax = WINDOW_BATCHES * limits.batchTextsMax;
  const counts = new Map([[leader, buckets[leader].textCount]]);
  let total = buckets[leader].textCount;
  for (const step of [1, -1]) {
    let left = sideMax;
    for (let at = leader + step; at >= 0 && at < buckets.length && left > 0; at += step) {
      if (buckets[at].heads !== heads) continue;
      const count = Math.min(left, buckets[at].textCount);
      counts.set(at, count);
      left -= count;
      total += count;
    }
  }
  const textsPerPlace = Math.ceil(total / PLACES_MAX);
  const places: number[] = [];
  for (const at of [...counts.keys()].sort((a, b) => a - b)) {
    for (let left = counts.get(at) ?? 0; left > 0; left -= textsPerPlace) places.push(at);
  }
  return { places, textsPerPlace };
}

/**
 * The cut of a row that costs least: sorted texts are best cut into runs, since swapping two texts
 * between batches never shortens either.
 *
 * @returns for each end of a run, how many places its last batch has.
 */
function cutRow(row: TextRow, buckets: readonly BucketView[], limits: Bounds): Int32Array {
  const { places, textsPerPlace } = row;
  const least = new Float64Array(places.length + 1);
  const counts = new Int32Array(places.length + 1);
  for (let end = 1; end <= places.length; end++) {
    const bucket = buckets[places[end - 1]];
    const capacity = Math.floor(capacityOf(bucket, limits) / textsPerPlace);
    const countMax = Math.min(end, Math.max(1, capacity));
    const placeCost = textsPerPlace * textCostOf(bucket.paddedLength, limits);
    least[end] = Number.POSITIVE_INFINITY;
    for (let count = 1; count <= countMax; count++) {
      const cost = least[end - count] + limits.launchTokens + count * placeCost;
      // Of equal ones the fullest.
      if (cost > least[end]) continue;
      least[end] = cost;
      counts[end] = count;
    }
  }
  return counts;
}

/** The places of the batch that has most of the leader's texts. */
function batchOfLeader({ places }: TextRow, leader: number, counts: Int32Array): Run {
  let from = 0;
  let to = 0;
  let most = 0;
  for (let end = places.length; end > 0; end -= counts[end]) {
    const start = end - counts[end];
    let own = 0;
    for (let place = start; place < end; place++) if (places[place] === leader) own++;
    if (own > most) [from, to, most] = [start, end, own];
  }
  return { from, to };
}

/** @returns the end of the batch once longer texts that would make it too dear are left out. */
function withoutDearOnes(batch: {
  row: TextRow;
  from: number;
  to: number;
  buckets: readonly BucketView[];
  leader: number;
  limits: PlanLimits;
}): number {
  const { row, from, buckets, leader, limits } = batch;
  const ownCost = textCostOf(buckets[leader].paddedLength, limits);
  const ownEnd = row.places.lastIndexOf(leader, batch.to - 1) + 1;
  const costMax = GROWTH_MAX * (ownEnd - from) * row.textsPerPlace * ownCost + limits.launchTokens;
  let end = batch.to;
  while (end > ownEnd) {
    const { paddedLength } = buckets[row.places[end - 1]];
    const cost = (end - from) * row.textsPerPlace * textCostOf(paddedLength, limits);
    if (cost <= costMax) break;
    end--;
  }
  return end;
}

/**
 * The run whose cost is used best, among those that cost no more than the leader's: texts and their
 * part of a full batch's launch, over what the batch costs. The leader's own where it is good.
 */
function bestFilled(
  own: Run,
  among: { row: TextRow; buckets: readonly BucketView[]; limits: Bounds },
): Run {
  const { places, textsPerPlace } = among.row;
  const { launchTokens } = among.limits;
  const costs = places.map(
    (at) => textsPerPlace * textCostOf(among.buckets[at].paddedLength, among.limits),
  );
  const capacityAt = (to: number): number => {
    const texts = capacityOf(among.buckets[places[to - 1]], among.limits);
    return Math.max(1, Math.floor(texts / textsPerPlace));
  };
  const costOf = (count: number, to: number): number => launchTokens + count * costs[to - 1];
  const costMax = costOf(own.to - own.from, own.to);
  let best = own;
  let useful = ((own.to - own.from) * launchTokens) / capacityAt(own.to);
  for (let place = own.from; place < own.to; place++) useful += costs[place];
  let fill = useful / costMax;
  if (fill >= FILL_WANTED) return own;
  for (let to = 1; to <= places.length; to++) {
    const capacity = capacityAt(to);
    useful = 0;
    for (let count = 1; count <= Math.min(capacity, to); count++) {
      useful += costs[to - count] + launchTokens / capacity;
      const cost = costOf(count, to);
      if (cost > costMax) break;
      if (useful <= fill * cost) continue;
      fill = useful / cost;
      best = { from: to - count, to };
    }
  }
  return best;
}

/**
 * What a text of this padded length costs, in tokens of a short text: attention grows with the
 * square.
 */
export function textCostOf(
  paddedLength: number,
  { lengthTokens = Number.POSITIVE_INFINITY }: Pick<PlanLimits, 'lengthTokens'>,
): number {
  return paddedLength * (1 + paddedLength / lengthTokens);
}

/**
 * A batch costs at most what a full one of texts of this length does: attention's square would
 * make two documents of 8,000 tokens twice as dear, and save one launch of eighty. In a crowd that
 * launch counts, and who comes waits for several batches in any case.
 */
const FULL_LENGTH = 512;

/** What a full batch of so many padded tokens costs, its launch not counted. */
export function fullCostOf(tokensMax: number, limits: Pick<PlanLimits, 'lengthTokens'>): number {
  return (tokensMax / FULL_LENGTH) * textCostOf(FULL_LENGTH, limits);
}

/** Full batches that wait in a crowd. */
const CROWD_BATCHES = 4;

/** Limits, and whether the queue is a crowd. */
export interface Bounds extends PlanLimits {
  readonly isCrowd: boolean;
}

/** Texts that fit a batch of this padded length with these heads; one always does. */
export function capacityOf(
  { paddedLength, heads }: Pick<BucketView, 'paddedLength' | 'heads'>,
  limits: Bounds,
): number {
  const tokensMax = tokensMaxOf(heads, limits);
  const cost = textCostOf(paddedLength, limits);
  const byTokens = Math.floor(tokensMax / paddedLength);
  const byCost = Math.floor(fullCostOf(tokensMax, limits) / cost);
  // Up to that length the two are the same but for rounding.
  const isByTokens = limits.isCrowd || paddedLength <= FULL_LENGTH;
  const byDemand = Math.floor(limits.costMax === undefined ? byTokens : limits.costMax / cost);
  const byShape = isByTokens ? byTokens : Math.min(byTokens, byCost);
  const countMax = Math.min(limits.batchTextsMax, Math.max(1, Math.min(byShape, byDemand)));
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
