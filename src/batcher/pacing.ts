import type { Backend } from '../backend/contract.ts';
import { type Clock, sleep } from '../base/clock.ts';

/** Weight of the newest batch in the expected time: it settles within some ten batches. */
const INFER_WEIGHT = 0.2;

/**
 * Dispatch pacing: holds back a batch that would only wait behind another one.
 *
 * An endpoint computes one batch at a time; a second one in flight keeps it fed. Sent at once, the
 * second batch carries the two or three texts of one turn of the event loop, and costs a launch.
 * Sent later, it carries what has arrived meanwhile, and still comes in time:
 *
 *     earliest departure = last change + share × expected time of a batch
 *
 * The last change is the last departure or return of a batch. A lone text is never held, since no
 * batch is in flight before it.
 */
export class DispatchPacing {
  readonly #clock: Clock;
  readonly #share: number;
  #inferMs = 0;
  #changedMs = Number.NEGATIVE_INFINITY;
  #isHolding = false;

  /** @param options.share of a batch's expected time; 0 holds nothing. */
  constructor(options: { clock: Clock; share: number }) {
    this.#clock = options.clock;
    this.#share = options.share;
  }

  /** A batch has left. */
  sent(): void {
    this.#changedMs = this.#clock.now();
  }

  /**
   * A batch came back; the one behind it is computed now.
   *
   * @param inferMs how long it took; undefined for one that failed or was given up.
   */
  returned(inferMs: number | undefined): void {
    this.#changedMs = this.#clock.now();
    if (inferMs === undefined) return;
    const weight = this.#inferMs === 0 ? 1 : INFER_WEIGHT;
    this.#inferMs += weight * (inferMs - this.#inferMs);
  }

  /**
   * Whether a batch that is not full may leave although every endpoint is busy. If not, `action`
   * is called when it may.
   */
  mayLeave(action: () => void): boolean {
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

/** How often a backend that is down is asked for its state, in ms: short beside a restart. */
const POLL_MS = 20;

/**
 * How long admitted texts wait for a backend that went down after their admission. No caller need
 * notice a restart, and none waits for a backend that stays away.
 */
export class BackendGrace {
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #graceMs: number;
  #downSinceMs: number | undefined;
  #isPolling = false;
  #isClosed = false;

  constructor(options: { backend: Backend; clock: Clock; graceMs: number }) {
    this.#backend = options.backend;
    this.#clock = options.clock;
    this.#graceMs = options.graceMs;
  }

  /** Ready; down, but not for long; or down for longer than anybody should wait. */
  look(): 'ready' | 'wait' | 'gone' {
    if (this.#backend.state().isReady) {
      this.#downSinceMs = undefined;
      return 'ready';
    }
    this.#downSinceMs ??= this.#clock.now();
    const isOver = this.#clock.now() - this.#downSinceMs >= this.#graceMs;
    return this.#isClosed || isOver ? 'gone' : 'wait';
  }

  /** Calls `action` once after a while, however often it is called meanwhile. */
  lookAgain(action: () => void): void {
    if (this.#isPolling) return;
    this.#isPolling = true;
    this.#clock.schedule(POLL_MS, () => {
      this.#isPolling = false;
      action();
    });
  }

  /** @returns whether the backend is ready, at once if it is, or came back in time. */
  async wait(): Promise<boolean> {
    for (let state = this.look(); state !== 'ready'; state = this.look()) {
      if (state === 'gone') return false;
      await sleep(this.#clock, POLL_MS);
    }
    return true;
  }

  close(): void {
    this.#isClosed = true;
  }
}
