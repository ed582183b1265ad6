import type { Head } from '../backend/backend.ts';
import { type PlanLimits, planBatch } from './batch-plan.ts';
import { type Due, Lane } from './lane.ts';

/** A text that waits for a batch. */
export interface WaitingText extends Due {
  /** What it is padded to in a batch of its like. */
  readonly paddedLength: number;
  /** Canonical: equal sets are the same array. Texts of different heads never share a batch. */
  readonly heads: readonly Head[];
  /** The request that it belongs to. */
  readonly ticket: { readonly isSettled: boolean; readonly batchTextsMax: number };
}

/** Texts over their request's `batchTextsMax` that are set aside while one batch is drawn, as a multiple of its size. */
const HELD_BACK_FACTOR = 4;

/** All waiting texts, by padded length and heads. */
export class WaitingTexts<Text extends WaitingText> {
  /** By ascending padded length; a lane that runs empty is taken out. */
  readonly #lanes: Lane<Text>[] = [];
  #textCount = 0;

  get textCount(): number {
    return this.#textCount;
  }

  push(text: Text): void {
    this.#laneOf(text).push(text);
    this.#textCount++;
  }

  /** Takes the next batch out. Texts that nobody waits for are dropped on the way; the result may be empty. */
  draw(limits: PlanLimits): Text[] {
    const drawn: Text[] = [];
    const heldBack: Text[] = [];
    const countByTicket = new Map<WaitingText['ticket'], number>();
    const heldBackMax = limits.batchTextsMax * HELD_BACK_FACTOR;
    for (const { laneIndex, textCount } of planBatch(this.#lanes, limits).draws) {
      for (let wanted = textCount; wanted > 0 && heldBack.length < heldBackMax; ) {
        const text = this.#lanes[laneIndex].pop();
        if (text === undefined) break;
        this.#textCount--;
        if (text.ticket.isSettled) continue;
        const count = countByTicket.get(text.ticket) ?? 0;
        if (count >= text.ticket.batchTextsMax) {
          heldBack.push(text);
          continue;
        }
        countByTicket.set(text.ticket, count + 1);
        drawn.push(text);
        wanted--;
      }
    }
    for (const text of heldBack) this.push(text);
    for (let at = this.#lanes.length; at-- > 0; ) {
      if (this.#lanes[at].textCount === 0) this.#lanes.splice(at, 1);
    }
    return drawn;
  }

  /** Takes everything out, in no order. */
  drain(): Text[] {
    const all: Text[] = [];
    for (const lane of this.#lanes.splice(0)) {
      for (let text = lane.pop(); text !== undefined; text = lane.pop()) all.push(text);
    }
    this.#textCount = 0;
    return all;
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
