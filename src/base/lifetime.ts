import type { Clock } from './clock.ts';
import { ServerError } from './errors.ts';

/**
 * How long somebody waits for a request: until its deadline, or until its caller hangs up.
 *
 * One lifetime follows a request through the tokenizer, the queue and the batch. Each stage asks
 * whether it is over before it does work, and may be told the moment it ends.
 */
export interface Lifetime {
  /** Why nobody waits any more; undefined while somebody does. */
  readonly ended: ServerError | undefined;
  /**
   * Calls `action` once when the lifetime ends; at once if it has. Only the last action given is
   * kept.
   */
  whenEnded(action: (reason: ServerError) => void): void;
  /** Ends the watch, not the lifetime: timers and listeners go, nothing is called. */
  release(): void;
}

/**
 * @param options.timeoutMs the request's whole budget.
 * @param options.signal fires when the caller hangs up.
 */
export function createLifetime(options: {
  clock: Pick<Clock, 'schedule'>;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}): Lifetime {
  const { clock, timeoutMs, signal } = options;
  let ended: ServerError | undefined;
  let action: ((reason: ServerError) => void) | undefined;

  const release = (): void => {
    cancelTimer();
    signal?.removeEventListener('abort', onAbort);
    action = undefined;
  };
  const end = (reason: ServerError): void => {
    if (ended !== undefined) return;
    ended = reason;
    const last = action;
    release();
    last?.(reason);
  };
  const onAbort = (): void =>
    end(new ServerError('EMB_REQUEST_ABORTED', 'The caller hung up before the reply.'));
  const cancelTimer = clock.schedule(timeoutMs, () =>
    end(
      new ServerError('EMB_DEADLINE_EXCEEDED', `The request took longer than ${timeoutMs} ms.`, {
        limit: timeoutMs,
      }),
    ),
  );
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort);

  return {
    get ended() {
      return ended;
    },
    whenEnded(next) {
      if (ended !== undefined) next(ended);
      else action = next;
    },
    release,
  };
}
