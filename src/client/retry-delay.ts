/** How long to wait between tries. */
export interface RetryTiming {
  /** The wait after the first failure, in ms, before jitter; it doubles with each further one. */
  readonly retryDelayMs: number;
  /** Where the doubling ends. A server that names a later time is obeyed all the same. */
  readonly retryDelayMsMax: number;
}

/**
 * Plans the wait before the next try, in ms.
 *
 * Without a word from the server: doubling, of which a random half is taken off, so that clients
 * that failed together do not come back together. With one: never sooner than it said, and a little
 * later for the same reason.
 *
 * @param options.failedCount tries that have failed so far, at least 1.
 * @param options.random from 0 up to, not including, 1.
 */
export function planRetryDelayMs(options: {
  timing: RetryTiming;
  failedCount: number;
  retryAfterMs: number | undefined;
  random: number;
}): number {
  const { timing, failedCount, retryAfterMs, random } = options;
  const doubled = timing.retryDelayMs * 2 ** (failedCount - 1);
  const delayMs = Math.min(doubled, timing.retryDelayMsMax);
  if (retryAfterMs === undefined) return delayMs * (1 - random / 2);
  return retryAfterMs + timing.retryDelayMs * random;
}
