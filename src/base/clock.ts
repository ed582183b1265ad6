/**
 * Time, as an argument. Nothing else in `src` calls `setTimeout`, `setImmediate` or
 * `performance.now`, so that a test can put a virtual clock in its place.
 */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /**
   * Calls `action` once, at least `delayMs` from now. The returned function cancels it; calling
   * that twice is harmless.
   */
  schedule(delayMs: number, action: () => void): () => void;
  /**
   * Calls `action` once what has already arrived in this turn of the event loop has been handled.
   */
  afterTurn(action: () => void): void;
}

/** The machine's own monotonic clock. A scheduled action does not keep the process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  afterTurn(action) {
    setImmediate(action);
  },
};

/**
 * The same clock for a program that runs to an end: a scheduled action keeps the process alive.
 */
export const foregroundClock: Clock = {
  ...systemClock,
  schedule(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};

/**
 * Keeps the process alive, which scheduled actions do not: for one that only waits for others. The
 * returned function lets it end.
 */
export function stayAlive(): () => void {
  const timer = setInterval(() => undefined, STAY_ALIVE_MS);
  return () => clearInterval(timer);
}

/** The longest that a timer of the system can wait. */
const STAY_ALIVE_MS = 2 ** 31 - 1;

/** Resolves after `delayMs` of `clock`'s time. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.schedule(delayMs, resolve);
  });
}
