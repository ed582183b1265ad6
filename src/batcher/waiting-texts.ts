import type { Head } from '../vectors/head.ts';
import { type PlanLimits, planBatch, tokensMaxOf } from './batch-plan.ts';
import { type Due, Lane } from './lane.ts';

/** A text that waits for a batch. */
export interface WaitingText extends Due {
  /** What it is padded to in a batch of its like. */
  readonly paddedLength: number;
  /** Canonical: equal sets are the same array. Texts of different heads never share a batch. */
  readonly heads: readonly Head[];
  /** Never shares a batch at all. */
  readonly isAlone: boolean;
  /** The request that it belongs to. */
  readonly ticket: WaitingTicket;
}

/** What the queue knows of a request. */
export interface WaitingTicket {
  /** Nobody waits for its texts any more. */
  readonly isSettled: boolean;
  readonly batchTextsMax: number;
  /** How many of its texts stand in lanes; the queue keeps it. */
  waitingCount: number;
}

/** What a batch may not exceed, and how it is computed; a part of `BackendLimits`. */
export interface DrawLimits extends PlanLimits {
  readonly slotCount: number;
  readonly isOneByOne: boolean;
}

/**
 * Texts that never share a batch and are passed over while one is drawn, as a multiple of its size.
 */
const PASSED_OVER_FACTOR = 4;

/**
 * Departed texts that are let lie: sweeping costs a look at each text that waits, so it has to be
 * worth it.
 */
const DEPARTED_KEPT = 64;

/**
 * All waiting texts, by padded length and heads.
 *
 * Of a request, no more texts stand in the lanes than may ride in one batch. So a lane has what a
 * plan sees in it: a thousand texts of a request that allows one of them a batch would look like a
 * full batch, keep shorter lanes out of it, and hide what waits behind them.
 */
export class WaitingTexts<Text extends WaitingText> {
  /** By ascending padded length; a lane that runs empty is taken out. */
  readonly #lanes: Lane<Text>[] = [];
  /** What does not stand in a lane yet, in the order in which it came: never an empty list. */
  readonly #surplus = new Map<WaitingTicket, Text[]>();
  #textCount = 0;
  #departedCount = 0;

  /**
   * Departed texts that were not swept yet included; those are never more than the living, or a
   * handful.
   */
  get textCount(): number {
    return this.#textCount;
  }

  /** When the most urgent text is due, in ms; infinite when nothing waits. */
  get dueMs(): number {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes) if (lane.dueMs < dueMs) dueMs = lane.dueMs;
    return dueMs;
  }

  /**
   * Texts in lanes, in no order, departed ones included: one at least of each request that waits.
   * For a look now and then: it copies.
   */
  texts(): readonly Text[] {
    return this.#lanes.flatMap((lane) => lane.items());
  }

  /** Texts of one request come in the order in which they are due. */
  push(text: Text): void {
    const { ticket } = text;
    this.#textCount++;
    if (ticket.waitingCount < ticket.batchTextsMax) {
      this.#line(text);
      return;
    }
    const surplus = this.#surplus.get(ticket);
    if (surplus === undefined) this.#surplus.set(ticket, [text]);
    else surplus.push(text);
  }

  /**
   * Told once a ticket has been settled while texts of it wait. Those in lanes are dropped when
   * drawn, or all at once when they outnumber the living: what a departed caller sent must not fill
   * memory until its turn would have come.
   */
  depart(ticket: WaitingTicket): void {
    this.#textCount -= this.#surplus.get(ticket)?.length ?? 0;
    this.#surplus.delete(ticket);
    this.#departedCount += ticket.waitingCount;
    const livingCount = this.#textCount - this.#departedCount;
    if (this.#departedCount <= Math.max(livingCount, DEPARTED_KEPT)) return;
    for (const lane of this.#lanes) lane.retain((text) => !text.ticket.isSettled);
    this.#textCount = livingCount;
    this.#departedCount = 0;
    this.#dropEmptyLanes();
  }

  /**
   * Takes the next batch out. Texts that nobody waits for are dropped on the way; the result may be
   * empty.
   *
   * @param runningCount texts of the batches that run.
   */
  draw(limits: DrawLimits, runningCount: number): Text[] {
    const drawn = limits.isOneByOne
      ? this.#drawInTurn(limits, runningCount)
      : this.#drawPlanned(limits);
    if (this.#surplus.size > 0) for (const { ticket } of drawn) this.#lineUp(ticket);
    this.#dropEmptyLanes();
    return drawn;
  }

  /**
   * Texts that are computed by themselves: the most urgent first, whatever their lengths, and as
   * many as leave the next batch waiting. Fewer would be more messages than need be; more would let
   * the slot that is free next wait for work.
   */
  #drawInTurn(limits: DrawLimits, runningCount: number): Text[] {
    const drawn: Text[] = [];
    const share = Math.floor((this.#textCount + runningCount) / (limits.slotCount + 1));
    const textCountMax = Math.min(limits.batchTextsMax, Math.max(1, share));
    let tokenCount = 0;
    while (drawn.length < textCountMax && !drawn[0]?.isAlone) {
      const laneIndex = this.#mostUrgentLane(drawn[0]?.heads);
      if (laneIndex === -1) break;
      const { paddedLength, heads } = this.#lanes[laneIndex];
      if (drawn.length > 0 && tokenCount + paddedLength > tokensMaxOf(heads, limits)) break;
      const text = this.#take(laneIndex);
      if (text === undefined || text.ticket.isSettled) continue;
      if (text.isAlone && drawn.length > 0) {
        this.push(text);
        break;
      }
      drawn.push(text);
      tokenCount += paddedLength;
    }
    return drawn;
  }

  /** Of those with these heads, or of all; -1 when there is none. */
  #mostUrgentLane(heads: readonly Head[] | undefined): number {
    let found = -1;
    let dueMs = Number.POSITIVE_INFINITY;
    for (const [index, lane] of this.#lanes.entries()) {
      if (lane.dueMs >= dueMs || (heads !== undefined && lane.heads !== heads)) continue;
      found = index;
      dueMs = lane.dueMs;
    }
    return found;
  }

  #drawPlanned(limits: PlanLimits): Text[] {
    const drawn: Text[] = [];
    const passedOver: Text[] = [];
    const passedOverMax = limits.batchTextsMax * PASSED_OVER_FACTOR;
    let isFull = false;
    for (const { laneIndex, textCount } of planBatch(this.#lanes, limits).draws) {
      for (let wanted = textCount; wanted > 0 && !isFull && passedOver.length < passedOverMax; ) {
        const text = this.#take(laneIndex);
        if (text === undefined) break;
        if (text.ticket.isSettled) continue;
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

  /** Takes everything out, in no order. */
  drain(): Text[] {
    const all: Text[] = [];
    for (let at = 0; at < this.#lanes.length; at++) {
      for (let text = this.#take(at); text !== undefined; text = this.#take(at)) all.push(text);
    }
    for (const surplus of this.#surplus.values()) for (const text of surplus) all.push(text);
    this.#surplus.clear();
    this.#textCount = 0;
    this.#lanes.length = 0;
    return all;
  }

  /** Puts a text into its lane. */
  #line(text: Text): void {
    this.#laneOf(text).push(text);
    text.ticket.waitingCount++;
  }

  /** Lets as many of a request's texts into lanes as may ride in the next batch. */
  #lineUp(ticket: WaitingTicket): void {
    const surplus = this.#surplus.get(ticket);
    if (surplus === undefined) return;
    const count = ticket.batchTextsMax - ticket.waitingCount;
    for (const text of surplus.splice(0, count)) this.#line(text);
    if (surplus.length === 0) this.#surplus.delete(ticket);
  }

  #take(laneIndex: number): Text | undefined {
    const text = this.#lanes[laneIndex].pop();
    if (text === undefined) return undefined;
    this.#textCount--;
    text.ticket.waitingCount--;
    if (text.ticket.isSettled) this.#departedCount--;
    return text;
  }

  #dropEmptyLanes(): void {
    for (let at = this.#lanes.length; at-- > 0; ) {
      if (this.#lanes[at].textCount === 0) this.#lanes.splice(at, 1);
    }
  }

  #laneOf({ paddedLength, heads }: Text): Lane<Text> {
    let at = this.#lanes.length;
    while (at > 0 && this.#lanes[at - 1].paddedLength >= paddedLength) {
      const lane = this.#lanes[--at];
      if (lane.paddedLength === paddedLength && lane.heads === heads) return lane;
    }
    const lane = new Lane<Text>(paddedLength, heads);
    this.#lanes.splice(at, 0, lane);
    return lane;
  }
}
