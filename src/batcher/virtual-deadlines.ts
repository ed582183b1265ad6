/**
 * The number of bulk requests that run before a single query has to queue, about. It is the share
 * of the backend that a request is promised: one part in sixteen.
 */
const PATIENCE = 16;

/** Padded tokens a ms before any measurement: a middling GPU. It sets only the first deadlines. */
const RATE_GUESS = 100;

/**
 * Weight of the newest batch in the measured rate: it settles, and forgets a stall, in ten
 * batches.
 */
const RATE_WEIGHT = 0.2;

/**
 * Gives each text its virtual deadline; the queue serves the earliest first.
 *
 * This is weighted fair queueing (Demers, Keshav and Shenker, 1989; Parekh and Gallager, 1993):
 * earliest virtual finish first. A request is a flow, and its texts are the packets:
 *
 *     finish(i) = finish(i - 1) + PATIENCE × tokens(i) / rate,   finish(-1) = arrival
 *
 * Each flow is promised a fixed share of the rate, so virtual time is the clock itself and no
 * flows are counted (as in Zhang's Virtual Clock, 1990). So a short query passes a long document,
 * a request of thousands of texts is interleaved with the rest, and no text starves: deadlines of
 * later arrivals lie ever later.
 *
 * One file for one formula, because a reader looks for it by name.
 */
export class VirtualDeadlines {
  #tokensPerMs = RATE_GUESS;

  /** What a text of so many tokens adds to the deadline before it, in ms. */
  patienceMs(tokenCount: number): number {
    return (PATIENCE * tokenCount) / this.#tokensPerMs;
  }

  /** Learns from a batch that has run: its padded tokens, and how long it took. */
  learn(paddedTokenCount: number, inferMs: number): void {
    const seen = paddedTokenCount / Math.max(inferMs, 0.01);
    this.#tokensPerMs += RATE_WEIGHT * (seen - this.#tokensPerMs);
  }
}
