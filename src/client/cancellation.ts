import { APIEncoderError } from './api-encoder-error.ts';

/**
 * The cancellation of one call. A call is cancelled when its caller gives up, its time is over, or
 * one of its requests fails.
 */
export interface Cancellation {
  /** Fires when the call is cancelled. The call rejects with its reason. */
  readonly signal: AbortSignal;
  /** Time that is left, in ms; `Infinity` without a total. */
  remainingMs(): number;
  /** Cancels the call; the first reason stays. */
  cancel(reason: unknown): void;
  /** Frees timers and listeners, and cancels nothing. */
  release(): void;
}

/**
 * @param options.totalTimeoutMs the call's whole budget; undefined when something else bounds it.
 * @param options.parent cancels with its own reason.
 */
export function createCancellation(options: {
  clock: ClientClock;
  totalTimeoutMs?: number | undefined;
  parent?: AbortSignal | undefined;
}): Cancellation {
  const { clock, totalTimeoutMs, parent } = options;
  const controller = new AbortController();
  const endMs = totalTimeoutMs === undefined ? Infinity : clock.now() + totalTimeoutMs;
  const onTime = (): void => {
    const message = `The call took longer than ${totalTimeoutMs} ms, all its tries together.`;
    const details = { retryable: true, limit: totalTimeoutMs };
    controller.abort(new APIEncoderError('CLIENT_TOTAL_TIMEOUT', message, details));
  };
  const cancelTimer =
    totalTimeoutMs === undefined ? undefined : clock.schedule(totalTimeoutMs, onTime);
  const leaveParent = parent && onAbort(parent, () => controller.abort(parent.reason));
  return {
    signal: controller.signal,
    remainingMs: () => endMs - clock.now(),
    cancel: (reason) => controller.abort(reason),
    release() {
      cancelTimer?.();
      leaveParent?.();
    },
  };
}

/** Does a part of a call that has a cancellation of its own, which ends with it. */
export async function runWithin<Result>(
  options: Parameters<typeof createCancellation>[0],
  work: (cancellation: Cancellation) => Promise<Result>,
): Promise<Result> {
  const cancellation = createCancellation(options);
  try {
    return await work(cancellation);
  } finally {
    cancellation.release();
  }
}

const actionsOf = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `action` once when the signal fires, or now when it has fired. The returned function
 * unsubscribes.
 *
 * A signal has one listener of ours, however many actions. A call subscribes once for each request,
 * and Node warns of a leak from the eleventh listener on.
 */
export function onAbort(signal: AbortSignal, action: () => void): () => void {
  if (signal.aborted) {
    action();
    return () => undefined;
  }
  const actions = actionsOf.get(signal) ?? listenTo(signal);
  // Two callers may share a function, and each may take back only its own.
  const own = (): void => action();
  actions.add(own);
  return () => {
    actions.delete(own);
  };
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const actions = new Set<() => void>();
  const callAll = (): void => {
    for (const action of [...actions]) action();
    actions.clear();
  };
  signal.addEventListener('abort', callAll, { once: true });
  actionsOf.set(signal, actions);
  return actions;
}

/** Rejects with the signal's reason when it fires. */
export function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    onAbort(signal, () => reject(signal.reason));
  });
}

/**
 * Time, as an argument. It is a part of the server's clock, so that one virtual clock serves the
 * tests of both.
 */
export interface ClientClock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /** Calls `action` once, at least `delayMs` from now. The returned function cancels it. */
  schedule(delayMs: number, action: () => void): () => void;
}

/**
 * The clock of the client's runtime. Unlike the server's, it needs nothing that a browser lacks,
 * and a timer keeps the process of a caller alive that waits for a retry.
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
