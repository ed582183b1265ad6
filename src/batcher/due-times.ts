/**
 * A text is due after this many times the time that it, and the texts of its own request before it,
 * take alone. So a short query passes a long document, a request of thousands of texts is
 * interleaved with the rest, and yet each is due some day and then passes what came later. Sixteen
 * lets about that many bulk requests run before a query has to queue.
 */
const PATIENCE = 16;

/**
 * Padded tokens a ms before anything was measured: a middling GPU. It only sets the first due
 * times.
 */
const RATE_GUESS = 100;

/**
 * Weight of the newest batch in the measured rate: it settles within some ten batches and forgets a
 * stall as fast.
 */
const RATE_WEIGHT = 0.2;

/**
 * Turns the cost of texts into due times, by the rate at which the backend has been seen to work.
 */
export class DueTimes {
  #tokensPerMs = RATE_GUESS;

  /** How much later than the one before it a text is due that costs so many tokens, in ms. */
  patienceMs(tokenCount: number): number {
    return (PATIENCE * tokenCount) / this.#tokensPerMs;
  }

  /** Learns from a batch that has run: its padded tokens, and how long it took. */
  learn(paddedTokenCount: number, inferMs: number): void {
    const seen = paddedTokenCount / Math.max(inferMs, 0.01);
    this.#tokensPerMs += RATE_WEIGHT * (seen - this.#tokensPerMs);
  }
}
