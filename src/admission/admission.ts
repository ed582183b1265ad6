import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';

/** A place in the queue for one request. */
export interface Permit {
  /** Gives the place back; called exactly once, in `finally`. */
  release(): void;
}

/** What a request asks for. */
export interface Demand {
  readonly textCount: number;
  /** Estimated from the length: what counts is early refusal, not the last token. */
  readonly tokenCount: number;
}

/** Refuses work before it is done. */
export interface Admission {
  /**
   * @throws ServerError EMB_QUEUE_FULL when texts or tokens would pass their limit, with the time
   * after which a place is likely; EMB_SHUTTING_DOWN once `close` was called.
   */
  admit(demand: Demand): Permit;
  readonly admittedTextCount: number;
  readonly admittedTokenCount: number;
  /** Admits nothing more. Resolves when the last permit is back. */
  close(): Promise<void>;
}

/**
 * Window over which the drain rate is measured, in ms: long enough for a few slow batches, short
 * enough to follow load.
 */
const WINDOW_MS = 5000;

/**
 * Bounds of Retry-After, in ms: below, clients would hammer; above, they would give up on a queue
 * that has long drained.
 */
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 30_000;

/**
 * Counts what is admitted and not yet answered, in texts and in tokens. An empty queue admits any
 * single request, so that the largest allowed request is never refused for ever.
 */
export function createAdmission(options: {
  clock: Clock;
  textCountMax: number;
  tokenCountMax: number;
}): Admission {
  const { clock, textCountMax, tokenCountMax } = options;
  let textCount = 0;
  let tokenCount = 0;
  let isClosed = false;
  let onEmpty: (() => void) | undefined;
  let windowStartMs = clock.now();
  let drainedInWindow = 0;
  let tokensPerMs = 0;

  function admit(demand: Demand): Permit {
    if (isClosed) throw new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
    const textsAfter = textCount + demand.textCount;
    const tokensAfter = tokenCount + demand.tokenCount;
    if (textCount > 0 && textsAfter > textCountMax) {
      throw full({ unit: 'texts', limit: textCountMax, value: textsAfter }, demand);
    }
    if (textCount > 0 && tokensAfter > tokenCountMax) {
      throw full({ unit: 'tokens', limit: tokenCountMax, value: tokensAfter }, demand);
    }
    textCount = textsAfter;
    tokenCount = tokensAfter;
    let isReleased = false;
    return {
      release() {
        invariant(!isReleased, 'a permit is released once');
        isReleased = true;
        release(demand);
      },
    };
  }

  function release(demand: Demand): void {
    textCount -= demand.textCount;
    tokenCount -= demand.tokenCount;
    drainedInWindow += demand.tokenCount;
    const elapsedMs = clock.now() - windowStartMs;
    if (elapsedMs >= WINDOW_MS) {
      tokensPerMs = drainedInWindow / elapsedMs;
      windowStartMs += elapsedMs;
      drainedInWindow = 0;
    }
    if (textCount === 0) onEmpty?.();
  }

  /**
   * Tokens that must leave before the demand fits, divided by the rate at which tokens have been
   * leaving.
   */
  function full(
    bound: { unit: string; limit: number; value: number },
    demand: Demand,
  ): ServerError {
    const elapsedMs = Math.max(clock.now() - windowStartMs, 1);
    const rate = Math.max(tokensPerMs, drainedInWindow / elapsedMs);
    const share = (bound.value - bound.limit) / bound.value;
    const excess = Math.max(share * (tokenCount + demand.tokenCount), demand.tokenCount);
    const waitMs = rate > 0 ? excess / rate : 1000;
    const retryAfterMs = Math.ceil(Math.min(RETRY_MS_MAX, Math.max(RETRY_MS_MIN, waitMs)));
    return new ServerError(
      'EMB_QUEUE_FULL',
      `The queue is full: ${bound.value} ${bound.unit} would wait, the limit is ${bound.limit}. ` +
        `Come back in ${retryAfterMs} ms.`,
      { limit: bound.limit, value: bound.value, retryAfterMs },
    );
  }

  return {
    admit,
    get admittedTextCount() {
      return textCount;
    },
    get admittedTokenCount() {
      return tokenCount;
    },
    close() {
      isClosed = true;
      if (textCount === 0) return Promise.resolve();
      return new Promise((resolve) => {
        onEmpty = resolve;
      });
    },
  };
}
