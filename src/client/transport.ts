import { APIEncoderError } from './api-encoder-error.ts';
import type { CallScope } from './call-scope.ts';
import { type ClientClock, pause } from './client-clock.ts';
import { hedge } from './hedge.ts';
import { type Fetch, type HttpRequest, tryOnce } from './http-try.ts';
import { planRetryDelayMs, type RetryTiming } from './retry-delay.ts';

/** How often and how patiently requests are sent. */
export interface TransportOptions extends RetryTiming {
  readonly timeoutMs: number;
  readonly retriesMax: number;
  /** Undefined: never. */
  readonly hedgeAfterMs: number | undefined;
  readonly fetch: Fetch;
  readonly clock: ClientClock;
  /** From 0 up to, not including, 1. */
  readonly random: () => number;
}

/**
 * Sends a request until it succeeds, its failure is for good, or no try or no time is left. To be
 * used for requests that may reach the server twice; all of the encoder's may.
 *
 * @returns the reply's body; owned by the caller.
 * @throws APIEncoderError of the last try, or the scope's reason.
 */
export async function send(
  options: TransportOptions,
  request: HttpRequest,
  scope: CallScope,
): Promise<Uint8Array> {
  const { clock, random } = options;
  for (let failedCount = 1; ; failedCount++) {
    scope.signal.throwIfAborted();
    try {
      return await sendOnce(options, request, scope.signal);
    } catch (error) {
      scope.signal.throwIfAborted();
      if (!(error instanceof APIEncoderError) || !error.retryable) throw error;
      const { retryAfterMs } = error;
      const plan = { timing: options, failedCount, retryAfterMs, random: random() };
      const delayMs = planRetryDelayMs(plan);
      // A wait that the call cannot survive would only delay the news.
      if (failedCount > options.retriesMax || delayMs >= scope.remainingMs()) throw error;
      await pause({ clock, delayMs, signal: scope.signal });
    }
  }
}

function sendOnce(
  options: TransportOptions,
  request: HttpRequest,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { fetch, clock, timeoutMs, hedgeAfterMs } = options;
  const attempt = (attemptSignal: AbortSignal): Promise<Uint8Array> =>
    tryOnce({ fetch, request, clock, timeoutMs, signal: attemptSignal });
  if (hedgeAfterMs === undefined) return attempt(signal);
  return hedge({ clock, hedgeAfterMs, signal, attempt });
}
