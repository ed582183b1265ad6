import type { Clock } from '../base/clock.ts';

/**
 * Busy time after which a measurement counts, in ms: several batches of the slowest backend we
 * know.
 */
const SPAN_MS = 500;

/** Weight of the newest span: load that changes is followed within some two seconds. */
const SPAN_WEIGHT = 0.4;

/** Tokens a ms before anything was measured: what one CPU core does with the smallest model. */
const RATE_GUESS = 5;

/**
 * The smallest rate, so that `tokens / rate` stays finite: a tenth of what two cores do with a
 * large model, one text at a time. A real rate replaces it within two spans.
 */
const RATE_MIN = 0.005;

/**
 * How fast admitted tokens leave while texts wait for a slot, in tokens a ms. Time in which the
 * queue is empty does not count: an idle server drains nothing and is not slow.
 *
 *     rate = rate + SPAN_WEIGHT × (spanTokens / spanMs - rate), after each busy span
 */
export class DrainRate {
  readonly #clock: Clock;
  #tokensPerMs = RATE_GUESS;
  #isMeasured = false;
  #spanTokens = 0;
  #spanMs = 0;
  #lastMs: number;
  #wasBusy = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastMs = clock.now();
  }

  get tokensPerMs(): number {
    return this.#tokensPerMs;
  }

  /** Whether the rate was seen, not guessed. */
  get isMeasured(): boolean {
    return this.#isMeasured;
  }

  /** So many tokens have left. @param isBusy whether others wait for a slot. */
  note(tokenCount: number, isBusy: boolean): void {
    const nowMs = this.#clock.now();
    if (this.#wasBusy) {
      this.#spanMs += nowMs - this.#lastMs;
      this.#spanTokens += tokenCount;
      // A span in which nothing left is not over: it would tell of callers, not of the backend.
      if (this.#spanMs >= SPAN_MS && this.#spanTokens > 0) this.#close();
    }
    this.#wasBusy = isBusy;
    this.#lastMs = nowMs;
  }

  #close(): void {
    const seen = this.#spanTokens / this.#spanMs;
    const weight = this.#isMeasured ? SPAN_WEIGHT : 1;
    const rate = this.#tokensPerMs + weight * (seen - this.#tokensPerMs);
    this.#tokensPerMs = Math.max(rate, RATE_MIN);
    this.#isMeasured = true;
    this.#spanTokens = 0;
    this.#spanMs = 0;
  }
}
