import type { BackendLimits } from '../backend/contract.ts';
import { textsOfLength } from '../model/engine-profiles.ts';
import type { Head } from '../vectors/output.ts';

/** What a plan may not exceed. */
export interface PlanLimits
  extends Pick<
    BackendLimits,
    | 'batchTextsMax'
    | 'batchTokensMax'
    | 'multiVectorTokensMax'
    | 'profiles'
    | 'launchTokens'
    | 'lengthTokens'
  > {
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
 * between batches never shortens either. The last batch of the first `end` places begins where
 *
 *     least[start] + launch + (end - start) × cost of a place
 *
 * is least, at most a full batch before. Among ends in one bucket a place costs the same, so that
 * the best start is the least of a window that moves on (sliding window minimum).
 *
 * @returns for each end of a run, how many places its last batch has.
 */
function cutRow(row: TextRow, buckets: readonly BucketView[], limits: Bounds): Int32Array {
  const { places, textsPerPlace } = row;
  const least = new Float64Array(places.length + 1);
  const counts = new Int32Array(places.length + 1);
  /** Starts in the window that may still become the best, from the best one on. */
  const starts = new Int32Array(places.length);
  let first = 0;
  let last = 0;
  let bucketIndex = -1;
  let capacity = 0;
  let placeCost = 0;
  for (let end = 1; end <= places.length; end++) {
    let start = end - 1;
    if (places[start] !== bucketIndex) {
      bucketIndex = places[start];
      capacity = placesOf(buckets[bucketIndex], textsPerPlace, limits);
      placeCost = textsPerPlace * textCostOf(buckets[bucketIndex].paddedLength, limits);
      first = 0;
      last = 0;
      start = Math.max(0, end - capacity);
    }
    for (; start < end; start++) {
      // Of equal ones the fullest: the earlier start stays before the later.
      const most = least[start] - start * placeCost;
      while (last > first && least[starts[last - 1]] - starts[last - 1] * placeCost > most) last--;
      starts[last++] = start;
    }
    if (starts[first] < end - capacity) first++;
    counts[end] = end - starts[first];
    least[end] = least[starts[first]] + limits.launchTokens + counts[end] * placeCost;
  }
  return counts;
}

/** Places that fit a batch that ends in this bucket. */
function placesOf(bucket: BucketView, textsPerPlace: number, limits: Bounds): number {
  return Math.max(1, Math.floor(capacityOf(bucket, limits) / textsPerPlace));
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
  /** What the places before each one cost, and of the bucket in hand a place and its launch. */
  const before = new Float64Array(places.length + 1);
  let bucketIndex = -1;
  let capacity = 0;
  let placeCost = 0;
  const look = (place: number): void => {
    if (places[place] === bucketIndex) return;
    bucketIndex = places[place];
    capacity = placesOf(among.buckets[bucketIndex], textsPerPlace, among.limits);
    placeCost = textsPerPlace * textCostOf(among.buckets[bucketIndex].paddedLength, among.limits);
  };
  for (let place = 0; place < places.length; place++) {
    look(place);
    before[place + 1] = before[place] + placeCost;
  }
  const fillOf = (from: number, to: number): number => {
    const useful = before[to] - before[from] + ((to - from) * launchTokens) / capacity;
    return useful / (launchTokens + (to - from) * placeCost);
  };
  look(own.to - 1);
  let fill = fillOf(own.from, own.to);
  if (fill >= FILL_WANTED) return own;
  const costMax = (own.to - own.from) * placeCost;
  let best = own;
  for (let to = 1; to <= places.length; to++) {
    look(to - 1);
    const countMax = Math.min(capacity, to, Math.floor(costMax / placeCost + ROUNDING));
    // Each further text is shorter, so that it adds less: the fill rises to one count, then falls.
    let from = Math.max(0, to - countMax);
    while (from < to - 1 && fillOf(from + 1, to) > fillOf(from, to)) from++;
    if (from === to || fillOf(from, to) <= fill * (1 + ROUNDING)) continue;
    fill = fillOf(from, to);
    best = { from, to };
  }
  return best;
}

/** Far above what sums of costs are off by. */
const ROUNDING = 1e-9;

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
