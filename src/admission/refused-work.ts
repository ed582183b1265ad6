import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

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

/**
 * Work that would take so many times its deadline, if nothing else were there, is not begun. The
 * speed that was measured is of a time when others may have had a part of the machine.
 */
const LATE_FACTOR = 2;

/** Tokens that are tried at any speed: a query. */
const TRIED_TOKENS = 256;

/** Why there is too much work for its deadline; undefined when there is not, or nobody knows. */
export function whyTooMuch(
  drain: { readonly tokensPerMs: number; readonly isMeasured: boolean },
  { tokenCount, timeoutMs: limit }: { tokenCount: number; timeoutMs: number },
): ServerError | undefined {
  if (tokenCount < TRIED_TOKENS) return undefined;
  const value = Math.ceil(tokenCount / drain.tokensPerMs);
  if (value <= LATE_FACTOR * limit || !drain.isMeasured) return undefined;
  return new ServerError(
    'EMB_DEADLINE_EXCEEDED',
    `The request would take ${value} ms at the present speed, the limit is ${limit} ms. ` +
      'Send fewer texts at a time.',
    { limit, value },
  );
}
