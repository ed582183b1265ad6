import type { Head } from '../backend/backend.ts';
import { type PlanLimits, planBatch } from './batch-plan.ts';
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
  /** How many of its texts are in the queue; the queue keeps it. */
  waitingCount: number;
}

/**
 * Texts over their request's `batchTextsMax` that are set aside while one batch is drawn, as a
 * multiple of its size.
 */
const HELD_BACK_FACTOR = 4;

/**
 * Departed texts that are let lie: sweeping costs a look at each text that waits, so it has to be
 * worth it.
 */
const DEPARTED_KEPT = 64;

/** All waiting texts, by padded length and heads. */
export class WaitingTexts<Text extends WaitingText> {
  /** By ascending padded length; a lane that runs empty is taken out. */
  readonly #lanes: Lane<Text>[] = [];
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

  /** All that wait, in no order, departed ones included. For a look now and then: it copies. */
  texts(): readonly Text[] {
    return this.#lanes.flatMap((lane) => lane.items());
  }

  push(text: Text): void {
    this.#laneOf(text).push(text);
    text.ticket.waitingCount++;
    this.#textCount++;
  }

  /**
   * Told once a ticket has been settled while texts of it wait. They are dropped when they are
   * drawn, or all at once when they outnumber the living: what a departed caller sent must not fill
   * memory until its turn would have come.
   */
  depart(ticket: WaitingTicket): void {
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
   */
  draw(limits: PlanLimits): Text[] {
    const drawn: Text[] = [];
    const heldBack: Text[] = [];
    const countByTicket = new Map<WaitingTicket, number>();
    const heldBackMax = limits.batchTextsMax * HELD_BACK_FACTOR;
    let isFull = false;
    for (const { laneIndex, textCount } of planBatch(this.#lanes, limits).draws) {
      for (let wanted = textCount; wanted > 0 && !isFull && heldBack.length < heldBackMax; ) {
        const text = this.#take(laneIndex);
        if (text === undefined) break;
        if (text.ticket.isSettled) continue;
        const count = countByTicket.get(text.ticket) ?? 0;
        const hasNoPlace = text.isAlone && drawn.length > 0;
        if (hasNoPlace || count >= text.ticket.batchTextsMax) {
          heldBack.push(text);
          continue;
        }
        countByTicket.set(text.ticket, count + 1);
        drawn.push(text);
        isFull = text.isAlone;
        wanted--;
      }
    }
    for (const text of heldBack) this.push(text);
    this.#dropEmptyLanes();
    return drawn;
  }

  /** Takes everything out, in no order. */
  drain(): Text[] {
    const all: Text[] = [];
    for (let at = 0; at < this.#lanes.length; at++) {
      for (let text = this.#take(at); text !== undefined; text = this.#take(at)) all.push(text);
    }
    this.#lanes.length = 0;
    return all;
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
