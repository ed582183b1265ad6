import type { Clock } from '../base/clock.ts';

/** The width of the spread of Retry-After: callers refused together must not return together. */
const SPREAD = 0.5;

/** The golden ratio's fraction: its multiples are spread evenly, without random numbers. */
const GOLDEN = 0.618_033_988_749_895;

/** Callers whose refused work is remembered; the one refused longest ago is forgotten first. */
const CALLERS_MAX = 1024;

/**
 * Says when refused work will fit.
 *
 * Who is refused comes back, so each refusal takes a time in the future, behind those that the same
 * caller was given before:
 *
 *     firstMs = now + max(excess, own tokens) / tokensPerMs
 *     nextMs  = the last time of this caller + own tokens × callers / tokensPerMs
 *     retryMs = (max(firstMs, nextMs) - now) × spread
 *
 * Times pass by themselves: nothing has to be told that a caller came back, or that it gave up.
 */
export class RefusedWork {
  readonly #clock: Clock;
  /** The last time that each caller was given, the one refused last at the end. */
  readonly #lastMs = new Map<string | undefined, number>();
  #refusedCount = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param refused.work its own tokens.
   * @param refused.excess tokens that must leave before it fits.
   */
  waitMsOf(refused: {
    caller: string | undefined;
    work: number;
    excess: number;
    tokensPerMs: number;
  }): number {
    const { caller, work, excess, tokensPerMs } = refused;
    const nowMs = this.#clock.now();
    this.#forget(nowMs);
    const lastMs = this.#lastMs.get(caller);
    const callerCount = this.#lastMs.size + (lastMs === undefined ? 1 : 0);
    const firstMs = nowMs + Math.max(excess, work) / tokensPerMs;
    const nextMs = (lastMs ?? nowMs) + (work * callerCount) / tokensPerMs;
    const backMs = Math.max(firstMs, nextMs);
    this.#lastMs.delete(caller);
    this.#lastMs.set(caller, backMs);
    const spread = 1 + SPREAD * (((++this.#refusedCount * GOLDEN) % 1) - 0.5);
    return (backMs - nowMs) * spread;
  }

  #forget(nowMs: number): void {
    for (const [caller, lastMs] of this.#lastMs) {
      if (lastMs > nowMs && this.#lastMs.size < CALLERS_MAX) break;
      this.#lastMs.delete(caller);
    }
  }
}
