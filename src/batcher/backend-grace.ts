import type { Backend } from '../backend/contract.ts';
import { type Clock, sleep } from '../base/clock.ts';

/** How often a backend that is down is looked at, in ms: little against what a restart takes. */
const POLL_MS = 20;

/**
 * How long work that was admitted waits for a backend that has gone down since: a restart need not
 * be noticed by anybody, and a backend that stays away must not be waited for.
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

  /** Calls `action` once after a while; asked twice meanwhile, still once. */
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
