import { invariant } from '../base/errors.ts';
import type { Head } from '../vectors/output.ts';
import { PASSES_MAX, type PlanLimits, planBatch, textCostOf, tokensMaxOf } from './plan.ts';

/** What the queue orders by. */
export interface Due {
  /** Virtual deadline, in ms of the clock: the earliest goes first. */
  readonly dueMs: number;
  /** Order of arrival; decides between equal deadlines. */
  readonly sequence: number;
}

/** A text that waits for a batch. */
export interface QueuedText extends Due {
  /** What it is padded to in a batch of its like. */
  readonly paddedLength: number;
  /** Canonical: equal sets are the same array. Texts of different heads never share a batch. */
  readonly heads: readonly Head[];
  /** Never shares a batch at all. */
  readonly isAlone: boolean;
  /** The request that it belongs to. */
  readonly request: QueuedRequest;
}

/** What the queue knows of a request. */
export interface QueuedRequest {
  /** Nobody waits for its texts any more. */
  readonly isSettled: boolean;
  readonly batchTextsMax: number;
  /** How many of its texts are in buckets; the queue keeps the count. */
  waitingCount: number;
}

/** What a batch may not exceed, and how it is computed; a part of `BackendLimits`. */
export interface DrawLimits extends PlanLimits {
  readonly slotCount: number;
  readonly isOneByOne: boolean;
  /** Whether `costMax` holds for the first text, too. */
  readonly isStrict?: boolean;
}

/** Texts that must run alone and are passed over for a batch: at most so many times its size. */
const PASSED_OVER_FACTOR = 4;

/** Departed texts that may stay in the queue: a sweep looks at each waiting text and must pay. */
const DEPARTED_KEPT = 64;

/**
 * The batch queue: all waiting texts, in length buckets.
 *
 * A request has at most as many texts in the buckets as it allows in one batch; the others wait
 * outside. So a bucket holds what a plan may take of it. A thousand texts of a request that allows
 * one in each batch would otherwise look like a full batch, keep shorter buckets out of it, and
 * hide the texts behind them.
 */
export class BatchQueue<Text extends QueuedText> {
  /** By ascending padded length; a bucket that runs empty is removed. */
  readonly #buckets: LengthBucket<Text>[] = [];
  /** Texts that are in no bucket yet, in order of arrival; no list is empty. */
  readonly #surplus = new Map<QueuedRequest, Text[]>();
  #textCount = 0;
  #departedCount = 0;
  /** Batches that left since one had the most urgent text. */
  #passCount = 0;

  /** Includes departed texts that were not swept yet: never more than the living, or a handful. */
  get textCount(): number {
    return this.#textCount;
  }

  /** The earliest virtual deadline, in ms; infinite when nothing waits. */
  get dueMs(): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const bucket of this.#buckets) if (bucket.dueMs < dueMs) dueMs = bucket.dueMs;
    return dueMs;
  }

  /**
   * Texts in buckets, in no order, departed ones included: at least one of each request that
   * waits. It copies, so it is for an occasional look.
   */
  texts(): readonly Text[] {
    return this.#buckets.flatMap((bucket) => bucket.items());
  }

  /** Texts of one request come in the order in which they are due. */
  push(text: Text): void {
    const { request } = text;
    this.#textCount++;
    if (request.waitingCount < request.batchTextsMax) {
      this.#insert(text);
      return;
    }
    const surplus = this.#surplus.get(request);
    if (surplus === undefined) this.#surplus.set(request, [text]);
    else surplus.push(text);
  }

  /**
   * Called once when a request was settled while texts of it wait. Its texts in buckets are
   * dropped when they are drawn, or all at once when the departed outnumber the living: they must
   * not fill memory until their turn would have come.
   */
  depart(request: QueuedRequest): void {
    this.#textCount -= this.#surplus.get(request)?.length ?? 0;
    this.#surplus.delete(request);
    this.#departedCount += request.waitingCount;
    const livingCount = this.#textCount - this.#departedCount;
    if (this.#departedCount <= Math.max(livingCount, DEPARTED_KEPT)) return;
    for (const bucket of this.#buckets) bucket.retain((text) => !text.request.isSettled);
    this.#textCount = livingCount;
    this.#departedCount = 0;
    this.#dropEmptyBuckets();
  }

  /**
   * Takes the next batch out. Departed texts are dropped on the way, so the result may be empty.
   *
   * @param runningCount texts in the batches that run.
   */
  draw(limits: DrawLimits, runningCount: number): Text[] {
    const drawn = limits.isOneByOne
      ? this.#drawInTurn(limits, runningCount)
      : this.#drawPlanned(limits);
    if (this.#surplus.size > 0) for (const { request } of drawn) this.#refill(request);
    this.#dropEmptyBuckets();
    return drawn;
  }

  /**
   * A batch for a backend that computes each text by itself: the most urgent texts, whatever their
   * lengths.
   *
   * textCount = (waitingCount + runningCount) / (slotCount + 1)
   *
   * The `+ 1` leaves one more batch waiting. A smaller batch costs more messages; a larger one
   * lets the slot that is free next wait for work.
   */
  #drawInTurn(limits: DrawLimits, runningCount: number): Text[] {
    const drawn: Text[] = [];
    const share = Math.floor((this.#textCount + runningCount) / (limits.slotCount + 1));
    const textCountMax = Math.min(limits.batchTextsMax, Math.max(1, share));
    const { costMax = Number.POSITIVE_INFINITY, isStrict = false } = limits;
    let tokenCount = 0;
    let cost = 0;
    const mayTake = ({ paddedLength, heads }: LengthBucket<Text>): boolean =>
      (drawn.length === 0 || heads === drawn[0].heads) &&
      (!isStrict || textCostOf(paddedLength, limits) <= costMax);
    while (drawn.length < textCountMax && !drawn[0]?.isAlone) {
      const bucketIndex = this.#mostUrgentBucket(mayTake);
      if (bucketIndex === -1) break;
      const { paddedLength, heads } = this.#buckets[bucketIndex];
      if (drawn.length > 0 && tokenCount + paddedLength > tokensMaxOf(heads, limits)) break;
      const textCost = textCostOf(paddedLength, limits);
      if (drawn.length > 0 && cost + textCost > costMax) break;
      const text = this.#take(bucketIndex);
      if (text === undefined || text.request.isSettled) continue;
      if (text.isAlone && drawn.length > 0) {
        this.push(text);
        break;
      }
      drawn.push(text);
      tokenCount += paddedLength;
      cost += textCost;
    }
    return drawn;
  }

  /** Among the buckets that may be taken from; -1 when there is none. */
  #mostUrgentBucket(mayTake: (bucket: LengthBucket<Text>) => boolean): number {
    let found = -1;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const [index, bucket] of this.#buckets.entries()) {
      if (bucket.dueMs >= dueMs || !mayTake(bucket)) continue;
      found = index;
      dueMs = bucket.dueMs;
    }
    return found;
  }

  #drawPlanned(limits: PlanLimits): Text[] {
    const drawn: Text[] = [];
    const passedOver: Text[] = [];
    const passedOverMax = limits.batchTextsMax * PASSED_OVER_FACTOR;
    let isFull = false;
    const { draws, isPassing } = planBatch(this.#buckets, limits, this.#passCount < PASSES_MAX);
    this.#passCount = isPassing ? this.#passCount + 1 : 0;
    for (const { bucketIndex, textCount } of draws) {
      for (let wanted = textCount; wanted > 0 && !isFull && passedOver.length < passedOverMax; ) {
        const text = this.#take(bucketIndex);
        if (text === undefined) break;
        if (text.request.isSettled) continue;
        if (text.isAlone && drawn.length > 0) {
          passedOver.push(text);
          continue;
        }
        drawn.push(text);
        isFull = text.isAlone;
        wanted--;
      }
    }
    for (const text of passedOver) this.push(text);
    return drawn;
  }

  /**
   * Takes texts that ride in a batch of others and make it no longer: of its heads, the longest
   * first, and none for which more than half would be padding.
   *
   * @param batch.textCount how many there is room for.
   */
  drawBackfill(batch: { paddedLength: number; heads: readonly Head[]; textCount: number }): Text[] {
    const { paddedLength, heads, textCount } = batch;
    const drawn: Text[] = [];
    for (let at = this.#buckets.length - 1; at >= 0 && drawn.length < textCount; at--) {
      const bucket = this.#buckets[at];
      if (bucket.paddedLength > paddedLength || bucket.heads !== heads) continue;
      if (2 * bucket.paddedLength < paddedLength) break;
      while (drawn.length < textCount && bucket.first?.isAlone === false) {
        const text = this.#take(at);
        if (text !== undefined && !text.request.isSettled) drawn.push(text);
      }
    }
    if (this.#surplus.size > 0) for (const { request } of drawn) this.#refill(request);
    this.#dropEmptyBuckets();
    return drawn;
  }

  /** Takes one text out, of a request that somebody waits for: in O(n) of its bucket. */
  remove(text: Text): void {
    const { request } = text;
    this.#textCount--;
    const surplus = this.#surplus.get(request) ?? [];
    const at = surplus.indexOf(text);
    if (at >= 0) {
      surplus.splice(at, 1);
      if (surplus.length === 0) this.#surplus.delete(request);
      return;
    }
    const isRemoved = this.#bucketOf(text).remove(text);
    invariant(isRemoved, 'a text that waits is in its bucket');
    request.waitingCount--;
    this.#refill(request);
    this.#dropEmptyBuckets();
  }

  /** Takes everything out, in no order. */
  drain(): Text[] {
    const all: Text[] = [];
    for (let at = 0; at < this.#buckets.length; at++) {
      for (let text = this.#take(at); text !== undefined; text = this.#take(at)) all.push(text);
    }
    for (const surplus of this.#surplus.values()) for (const text of surplus) all.push(text);
    this.#surplus.clear();
    this.#textCount = 0;
    this.#buckets.length = 0;
    return all;
  }

  /** Puts a text into its bucket. */
  #insert(text: Text): void {
    this.#bucketOf(text).push(text);
    text.request.waitingCount++;
  }

  /** Moves as many of a request's texts into buckets as it allows in one batch. */
  #refill(request: QueuedRequest): void {
    const surplus = this.#surplus.get(request);
    if (surplus === undefined) return;
    const count = request.batchTextsMax - request.waitingCount;
    for (const text of surplus.splice(0, count)) this.#insert(text);
    if (surplus.length === 0) this.#surplus.delete(request);
  }

  #take(bucketIndex: number): Text | undefined {
    const text = this.#buckets[bucketIndex].pop();
    if (text === undefined) return undefined;
    this.#textCount--;
    text.request.waitingCount--;
    if (text.request.isSettled) this.#departedCount--;
    return text;
  }

  #dropEmptyBuckets(): void {
    for (let at = this.#buckets.length; at-- > 0; ) {
      if (this.#buckets[at].textCount === 0) this.#buckets.splice(at, 1);
    }
  }

  #bucketOf({ paddedLength, heads }: Text): LengthBucket<Text> {
    let at = this.#buckets.length;
    while (at > 0 && this.#buckets[at - 1].paddedLength >= paddedLength) {
      const bucket = this.#buckets[--at];
      if (bucket.paddedLength === paddedLength && bucket.heads === heads) return bucket;
    }
    const bucket = new LengthBucket<Text>(paddedLength, heads);
    this.#buckets.splice(at, 0, bucket);
    return bucket;
  }
}

/**
 * The waiting texts of one padded length and one set of heads, most urgent first: a binary heap.
 * Push and pop cost O(log n).
 */
export class LengthBucket<Item extends Due> {
  readonly paddedLength: number;
  readonly heads: readonly Head[];
  #heap: Item[] = [];

  constructor(paddedLength: number, heads: readonly Head[]) {
    this.paddedLength = paddedLength;
    this.heads = heads;
  }

  get textCount(): number {
    return this.#heap.length;
  }

  /** The most urgent text; undefined when the bucket is empty. */
  get first(): Item | undefined {
    return this.#heap[0];
  }

  /** The earliest virtual deadline; infinite for an empty bucket. */
  get dueMs(): number {
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0].dueMs;
  }

  push(item: Item): void {
    this.#heap.push(item);
    this.#rise(item, this.#heap.length - 1);
  }

  /** In no order. */
  items(): readonly Item[] {
    return this.#heap;
  }

  /** Takes the most urgent text; undefined when the bucket is empty. */
  pop(): Item | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return last;
    this.#sink(last, 0);
    return top;
  }

  /** @returns whether the item was there. */
  remove(item: Item): boolean {
    const heap = this.#heap;
    const index = heap.indexOf(item);
    if (index === -1) return false;
    const last = heap.pop();
    if (last === undefined || index === heap.length) return true;
    this.#sink(last, index);
    if (heap[index] === last) this.#rise(last, index);
    return true;
  }

  /** Moves an item from a place towards the top, as far as it is more urgent. */
  #rise(item: Item, from: number): void {
    const heap = this.#heap;
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (isBefore(heap[parent], item)) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = item;
  }

  /** Moves an item from a place away from the top, as far as others are more urgent. */
  #sink(item: Item, from: number): void {
    const heap = this.#heap;
    let index = from;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (isBefore(item, heap[child])) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = item;
  }

  /** Drops the texts for which `isKept` is false, in O(n log n). */
  retain(isKept: (item: Item) => boolean): void {
    const kept = this.#heap.filter(isKept);
    this.#heap = [];
    for (const item of kept) this.push(item);
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.sequence < b.sequence);
}
