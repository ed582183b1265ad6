import { onAbort } from './on-abort.ts';

/**
 * Time, as an argument: what the client uses of the server's clock, so that either can stand in for
 * the other in tests.
 */
export interface ClientClock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /** Calls `action` once, at least `delayMs` from now. The returned function cancels it. */
  schedule(delayMs: number, action: () => void): () => void;
}

/**
 * The clock of whatever runs the client. It is not the server's: it needs nothing that a browser
 * lacks, and a caller who waits for a retry keeps its process alive.
 */
export const portableClock: ClientClock = {
  now: () => performance.now(),
  schedule(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `delayMs`; rejects with the signal's reason when that comes first. */
export function pause(options: {
  clock: ClientClock;
  delayMs: number;
  signal: AbortSignal;
}): Promise<void> {
  const { clock, delayMs, signal } = options;
  return new Promise((resolve, reject) => {
    const cancel = clock.schedule(delayMs, () => {
      stopListening();
      resolve();
    });
    const stopListening = onAbort(signal, () => {
      cancel();
      reject(signal.reason);
    });
  });
}
