import { APIEncoderError } from './api-encoder-error.ts';
import type { ClientClock } from './client-clock.ts';
import { onAbort } from './on-abort.ts';

/**
 * How long one call goes on: until it is done, its caller gives up, its time is over, or one of its
 * requests fails.
 */
export interface CallScope {
  /** Fires when the call is over before it is done. Its reason is what the call rejects with. */
  readonly signal: AbortSignal;
  /** Time that is left, in ms; `Infinity` without a total. */
  remainingMs(): number;
  /** Ends the call; the first reason stays. */
  end(reason: unknown): void;
  /** Lets go of timers and listeners. Ends nothing. */
  release(): void;
}

/**
 * @param options.totalTimeoutMs the call's whole budget; undefined when something else bounds it.
 * @param options.parent ends the scope with its own reason.
 */
export function openCallScope(options: {
  clock: ClientClock;
  totalTimeoutMs?: number | undefined;
  parent?: AbortSignal | undefined;
}): CallScope {
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
    end: (reason) => controller.abort(reason),
    release() {
      cancelTimer?.();
      leaveParent?.();
    },
  };
}
