import type { Clock } from '../base/clock.ts';

/** Weight of the newest batch in the expected time: it settles within some ten batches. */
const INFER_WEIGHT = 0.2;

/**
 * Holds back a batch that would only wait behind another one.
 *
 * An endpoint computes one batch at a time; a second one in flight is there to keep it fed. Sent at
 * once it carries the two or three texts of one turn of the event loop, and costs a launch; sent
 * when the first is half done it carries what has come meanwhile, and is early enough. A lone text
 * is never held: there is nothing in flight before it.
 */
export class BatchHold {
  readonly #clock: Clock;
  readonly #share: number;
  #inferMs = 0;
  #changedMs = Number.NEGATIVE_INFINITY;
  #isHolding = false;

  /**
   * @param options.share of a batch's expected time for which the next is held; 0 holds nothing.
   */
  constructor(options: { clock: Clock; share: number }) {
    this.#clock = options.clock;
    this.#share = options.share;
  }

  /** A batch has left. */
  sent(): void {
    this.#changedMs = this.#clock.now();
  }

  /** A batch came back, `inferMs` after it had left; the one behind it is computed now. */
  returned(inferMs: number): void {
    this.#changedMs = this.#clock.now();
    const weight = this.#inferMs === 0 ? 1 : INFER_WEIGHT;
    this.#inferMs += weight * (inferMs - this.#inferMs);
  }

  /**
   * Whether a batch that is not full had better wait, while every endpoint is busy. If so, `action`
   * is called when it need not any more.
   */
  isDue(action: () => void): boolean {
    const remainingMs = this.#changedMs + this.#share * this.#inferMs - this.#clock.now();
    if (remainingMs <= 0) return true;
    if (this.#isHolding) return false;
    this.#isHolding = true;
    this.#clock.schedule(remainingMs, () => {
      this.#isHolding = false;
      action();
    });
    return false;
  }
}
