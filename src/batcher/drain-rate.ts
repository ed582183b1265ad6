import type { Clock } from '../base/clock.ts';

/** How fast the backend gets through what waits. */
export interface DrainEstimate {
  /** Real tokens, padding not counted; a guess until something was measured. */
  readonly tokensPerMs: number;
  /** Whether it was seen, and not too long ago. Only then may it refuse anybody. */
  readonly isMeasured: boolean;
}

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

/** How long a measurement holds, in ms: after a pause the backend may be another one. */
const FORGET_MS = 30_000;

/**
 * How fast work is done while more of it waits, in tokens a ms.
 *
 * Only work that was done tells of it. A batch that failed or was given up adds neither tokens nor
 * time, and callers who leave change nothing: the backend was no slower for them. A batch behind
 * which nothing waits is as small as its callers made it, and does not count either.
 *
 *     span = Σ tokens / Σ (inferMs / batches beside each other), over at least SPAN_MS
 *     rate = rate + SPAN_WEIGHT × (span - rate)
 */
export class DrainRate implements DrainEstimate {
  readonly #clock: Clock;
  #tokensPerMs = RATE_GUESS;
  #spanTokens = 0;
  #spanMs = 0;
  /** When something was last measured. */
  #measuredMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get tokensPerMs(): number {
    return this.#tokensPerMs;
  }

  get isMeasured(): boolean {
    return this.#clock.now() - this.#measuredMs < FORGET_MS;
  }

  /**
   * A batch came back right while more work waited.
   *
   * @param batch.batchCount how many batches ran meanwhile, itself included.
   */
  learn(batch: { tokenCount: number; inferMs: number; batchCount: number }): void {
    this.#spanTokens += batch.tokenCount;
    this.#spanMs += batch.inferMs / batch.batchCount;
    if (this.#spanMs < SPAN_MS) return;
    const seen = this.#spanTokens / this.#spanMs;
    const weight = this.isMeasured ? SPAN_WEIGHT : 1;
    const rate = this.#tokensPerMs + weight * (seen - this.#tokensPerMs);
    this.#tokensPerMs = Math.max(rate, RATE_MIN);
    this.#measuredMs = this.#clock.now();
    this.#spanTokens = 0;
    this.#spanMs = 0;
  }
}
