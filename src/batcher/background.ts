import type { BackendLimits } from '../backend/contract.ts';
import type { Clock } from '../base/clock.ts';
import { type DispatchPacing, DrainRate } from './pacing.ts';
import { fullCostOf } from './plan.ts';

/** How much people's queries and texts of the background may be in each other's way. */
export interface BackgroundLimits {
  /** How long background texts at the backend may make a query wait, in ms. */
  readonly delayMs: number;
  /** The part of the speed they have alone that background texts get, whatever else waits. */
  readonly share: number;
  /** How long they may be without it, in ms. */
  readonly waitMs: number;
}

/** Without a query for so long, in ms, a background batch may be as large as any. */
const QUIET_MS = 10_000;

/** How far the load of the queries looks back, in ms. */
const LOAD_MS = 1000;

/** What background texts may add to the cost of a batch of queries, as a part of it. */
export const BACKFILL_PART = 0.05;

/** A batch counts for so much of its time at least, however much of that is its launch. */
const WORK_SHARE_MIN = 0.5;

/**
 * Decides when background texts may go to the backend, and how much of them. Queries go first, so
 * what delays a query is what is at the backend already, which cannot be called back:
 *
 *     background work in flight ≤ one batch, for each endpoint
 *
 * as a network card is given no more bytes than it needs (Linux' byte queue limits). How long that
 * batch may take depends on what is at stake: where queries keep the backend busy, little is left
 * for the background and a short batch takes it; where they are rare, longer batches waste fewer
 * launches; where there are none, a batch is as large as any.
 *
 *     batchMs = min(delayMs, max(delayMs × idle part, what a query finds before it anyway))
 *
 * With queries that fill the backend nothing would be left. So background work is a debt that time
 * pays off; where none is left, a batch passes the waiting queries:
 *
 *     debt = max(0, debt + background work - share × time)
 *
 * Work while no query waited counts for at most `share × waitMs`: so the background passes only
 * where it was without its share for so long. One batch of `delayMs` counts all the same: else a
 * query that came meanwhile would wait for it, and for the next one.
 *
 * What counts is work done: batches are short for the queries' sake, so most of one may be its
 * launch, and a share of the time alone would get less done than it says.
 *
 *     work = max(time / 2, time of the same texts in full batches)
 */
export class BackgroundBudget {
  /** How fast background texts get done beside the queries: by the clock, not by busy time. */
  readonly drain: DrainRate;
  readonly #clock: Clock;
  readonly #limits: BackgroundLimits;
  readonly #pacing: DispatchPacing;
  /** Batches in flight of background texts alone. */
  #inFlight: readonly object[] = [];
  /** Background batches that failed and are being taken apart: nobody knows how long it takes. */
  readonly #failed = new Set<object>();
  /** Of the last batch: what the next one is expected to cost. */
  #lastCost = Number.POSITIVE_INFINITY;
  #lastQueryMs = Number.NEGATIVE_INFINITY;
  /**
   * Of the queries' batches, fading with `LOAD_MS`: their ms if no two texts shared a batch, their
   * ms, and those squared. And when they faded.
   */
  #loneMs = 0;
  #queryMs = 0;
  #querySquares = 0;
  #fadedMs = 0;
  /** When background texts last got done, or began to wait. */
  #drainedMs = 0;
  /** In ms of one endpoint. */
  #creditMs: number;
  /** Until when credit was earned. */
  #earnedMs = 0;
  #isWaiting = false;
  #endpointCount = 1;

  constructor(options: { clock: Clock; pacing: DispatchPacing; limits: BackgroundLimits }) {
    this.#clock = options.clock;
    this.#pacing = options.pacing;
    this.drain = new DrainRate(options.clock);
    this.#limits = options.limits;
    this.#creditMs = this.#debtMax;
  }

  /** Texts have come, of the background or not. */
  came(isBackground: boolean, nowMs: number): void {
    if (!isBackground) this.#lastQueryMs = nowMs;
    else if (!this.#isWaiting) {
      this.#earn();
      this.#drainedMs = nowMs;
      this.#isWaiting = true;
    }
  }

  /** No background text waits any more: nothing is owed, and what they owe stays. */
  ranOut(): void {
    this.#isWaiting = false;
    this.#earn();
  }

  /**
   * A batch has left.
   *
   * @param sent.backgroundCost the part of its cost that is of the background.
   * @param sent.isBefore background texts have gone before waiting queries.
   */
  sent(
    batch: object,
    sent: { cost: number; backgroundCost: number; textCount: number; isBefore: boolean },
    limits: BackendLimits,
  ): void {
    const { launchTokens } = limits;
    this.#endpointCount = limits.endpointCount;
    const { msPerCost } = this.#pacing;
    let workCost = sent.backgroundCost;
    if (sent.backgroundCost === sent.cost) {
      this.#inFlight = [...this.#inFlight, batch];
      this.#lastCost = sent.cost;
      workCost = workOf(sent.cost, limits);
    } else {
      const ms = (sent.cost - sent.backgroundCost) * msPerCost;
      this.#fade();
      this.#loneMs += ms + (sent.textCount - 1) * launchTokens * msPerCost;
      this.#queryMs += ms;
      this.#querySquares += ms * ms;
    }
    this.#earn();
    const workMs = workCost * msPerCost;
    const debtMax = sent.isBefore
      ? Number.NEGATIVE_INFINITY
      : Math.min(this.#creditMs, this.#debtMax, -Math.min(workMs, this.#limits.delayMs));
    this.#creditMs = Math.max(this.#creditMs - workMs, debtMax);
  }

  /** A background batch failed; what can be saved of it is tried again in its slot. */
  failed(batch: object): void {
    if (this.#inFlight.includes(batch)) this.#failed.add(batch);
  }

  /** A batch came back. @param tokenCount of the background texts that it got done. */
  returned(batch: object, tokenCount: number): void {
    this.#inFlight = this.#inFlight.filter((other) => other !== batch);
    this.#failed.delete(batch);
    if (tokenCount === 0) return;
    const nowMs = this.#clock.now();
    this.drain.learn({ tokenCount, inferMs: nowMs - this.#drainedMs, batchCount: 1 });
    this.#drainedMs = nowMs;
  }

  /** Whether waiting background texts go before waiting queries now. */
  isOwed(): boolean {
    this.#earn();
    return this.#creditMs >= 0;
  }

  /**
   * What the texts of a background batch that leaves now may cost, in tokens of a short text;
   * undefined while none may leave. Then one is in flight, and its return is the time to ask again.
   *
   * @param isBusy every endpoint has a batch.
   */
  costMax(limits: BackendLimits, isBusy: boolean): number | undefined {
    const batchCost = this.#batchCost(limits);
    if (!isBusy) return Math.max(0, batchCost - limits.launchTokens);
    if (this.#failed.size > 0) return undefined;
    let roomCost = batchCost * limits.endpointCount;
    for (const batch of this.#inFlight) roomCost -= this.#pacing.remainingCost(batch);
    if (roomCost < Math.min(batchCost, this.#lastCost)) return undefined;
    return Math.max(0, Math.min(batchCost, roomCost) - limits.launchTokens);
  }

  /** What a background batch may cost, its launch included. */
  #batchCost(limits: BackendLimits): number {
    const fullCost = limits.launchTokens + fullCostOf(limits.batchTokensMax, limits);
    const nowMs = this.#clock.now();
    if (nowMs - this.#lastQueryMs >= QUIET_MS) return fullCost;
    this.#fade();
    const { delayMs } = this.#limits;
    const idlePart = 1 - this.#loneMs / LOAD_MS / limits.endpointCount;
    const foundMs = this.#queryMs > 0 ? this.#querySquares / this.#queryMs : 0;
    const batchMs = Math.min(delayMs, Math.max(delayMs * idlePart, foundMs));
    return Math.min(fullCost, batchMs / this.#pacing.msPerCost);
  }

  /** Nobody saves up: what a backend that was away has not given is not made good later. */
  #earn(): void {
    const nowMs = this.#clock.now();
    const earnedMs = this.#limits.share * (nowMs - this.#earnedMs) * this.#endpointCount;
    this.#earnedMs = nowMs;
    this.#creditMs = Math.min(this.#creditMs + earnedMs, this.#isWaiting ? 0 : this.#debtMax);
  }

  #fade(): void {
    const nowMs = this.#clock.now();
    const kept = Math.exp((this.#fadedMs - nowMs) / LOAD_MS);
    this.#loneMs *= kept;
    this.#queryMs *= kept;
    this.#querySquares *= kept;
    this.#fadedMs = nowMs;
  }

  get #debtMax(): number {
    return -this.#limits.share * this.#limits.waitMs;
  }
}

/** What the texts of a batch would cost in full batches; at least half of what it costs. */
function workOf(cost: number, limits: BackendLimits): number {
  const fullCost = fullCostOf(limits.batchTokensMax, limits);
  const launches = (limits.launchTokens + fullCost) / fullCost;
  return Math.max(WORK_SHARE_MIN * cost, (cost - limits.launchTokens) * launches);
}
