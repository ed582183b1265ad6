import { APIEncoderError, errorOfReply, withTries } from './api-encoder-error.ts';
import {
  type Cancellation,
  type ClientClock,
  createCancellation,
  onAbort,
  pause,
} from './cancellation.ts';
import { connectionErrorOf, schemeErrorOf } from './connection-error.ts';

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
 * Sends a request until it succeeds, it fails for good, or no try or no time is left. Only for
 * requests that may reach the server twice, which is true of all of the encoder's.
 *
 * @returns the reply's body; owned by the caller.
 * @throws APIEncoderError of the last try, or the cancellation's reason.
 */
export async function send(
  options: TransportOptions,
  request: HttpRequest,
  cancellation: Cancellation,
): Promise<Uint8Array> {
  const { clock, random } = options;
  const startMs = clock.now();
  for (let failedCount = 1; ; failedCount++) {
    cancellation.signal.throwIfAborted();
    try {
      return await sendOnce(options, request, cancellation.signal);
    } catch (error) {
      cancellation.signal.throwIfAborted();
      if (!(error instanceof APIEncoderError)) throw error;
      const told = withTries(error, { tryCount: failedCount, elapsedMs: clock.now() - startMs });
      if (!error.retryable) throw told;
      const { retryAfterMs } = error;
      const plan = { timing: options, failedCount, retryAfterMs, random: random() };
      const delayMs = planRetryDelayMs(plan);
      // A wait that the call cannot survive would only delay the news.
      if (failedCount > options.retriesMax || delayMs >= cancellation.remainingMs()) throw told;
      await pause({ clock, delayMs, signal: cancellation.signal });
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

/** The part of `fetch` that the client uses. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A request that can be sent again as it is. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

/**
 * Sends a request once.
 *
 * @returns the whole body of a reply with a status of success; owned by the caller.
 * @throws APIEncoderError: the server's error, one of `connectionErrorOf`, CLIENT_SCHEME_WRONG,
 * CLIENT_HTTP_FAILED or CLIENT_TIMEOUT; or the signal's reason.
 */
export async function tryOnce(options: {
  fetch: Fetch;
  request: HttpRequest;
  clock: ClientClock;
  timeoutMs: number;
  signal: AbortSignal;
}): Promise<Uint8Array> {
  const { clock, timeoutMs, signal } = options;
  const cancellation = createCancellation({ clock, parent: signal });
  const cancelTimer = clock.schedule(timeoutMs, () =>
    cancellation.cancel(
      new APIEncoderError('CLIENT_TIMEOUT', `There was no reply within ${timeoutMs} ms.`, {
        retryable: true,
        limit: timeoutMs,
      }),
    ),
  );
  try {
    // The race is for a fetch that is slow to notice its signal: whoever gave up gets on at once.
    return await Promise.race([
      sendAndRead({ ...options, signal: cancellation.signal }),
      whenAborted(cancellation.signal),
    ]);
  } catch (error) {
    cancellation.signal.throwIfAborted();
    throw error instanceof APIEncoderError ? error : connectionErrorOf(error, options.request.url);
  } finally {
    cancelTimer();
    cancellation.release();
  }
}

async function sendAndRead(options: {
  fetch: Fetch;
  request: HttpRequest;
  clock: ClientClock;
  signal: AbortSignal;
}): Promise<Uint8Array> {
  const { fetch, request, signal } = options;
  const { url, ...init } = request;
  const response = await fetch(url, { ...init, signal }).catch(async (error: unknown) => {
    throw (await schemeError(options, error)) ?? error;
  });
  const body = new Uint8Array(await response.arrayBuffer());
  if (response.ok) return body;
  throw errorOfReply({ status: response.status, headers: response.headers, body });
}

/** How long a server may take to begin TLS when it is asked whether it speaks it, in ms. */
const SCHEME_PROBE_MS = 1000;

/** Asks only where a connection broke off before any reply, for a reason that nobody told. */
async function schemeError(
  options: { fetch: Fetch; request: HttpRequest; clock: ClientClock; signal: AbortSignal },
  error: unknown,
): Promise<APIEncoderError | undefined> {
  const { fetch, request, clock, signal } = options;
  const { code } = connectionErrorOf(error, request.url);
  if (signal.aborted || code !== 'CLIENT_CONNECTION_FAILED') return undefined;
  const probe = createCancellation({ clock, parent: signal });
  const cancelTimer = clock.schedule(SCHEME_PROBE_MS, () => probe.cancel(error));
  try {
    return await schemeErrorOf(request.url, (url) =>
      fetch(url, { method: 'HEAD', signal: probe.signal }),
    );
  } finally {
    cancelTimer();
    probe.release();
  }
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    onAbort(signal, () => reject(signal.reason));
  });
}

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
 * - Without Retry-After: exponential back-off, `retryDelayMs × 2^(failedCount - 1)` up to
 *   `retryDelayMsMax`, less a random part of at most half. The jitter keeps clients that failed
 *   together from coming back together.
 * - With Retry-After: that time, plus a random part of `retryDelayMs`.
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

/**
 * Starts `attempt`, and once more when `hedgeAfterMs` have gone by without an answer. The first
 * success counts and the other attempt is aborted; a failure counts when nothing else is running.
 * An attempt that fails early is not hedged: that is what retries are for.
 */
export async function hedge<Result>(options: {
  clock: ClientClock;
  hedgeAfterMs: number;
  signal: AbortSignal;
  attempt: (signal: AbortSignal) => Promise<Result>;
}): Promise<Result> {
  const { clock, hedgeAfterMs, signal, attempt } = options;
  const cancellation = createCancellation({ clock, parent: signal });
  let cancelTimer = (): void => {};
  let runningCount = 0;
  try {
    return await new Promise<Result>((resolve, reject) => {
      const start = (): void => {
        runningCount++;
        attempt(cancellation.signal).then(resolve, (error: unknown) => {
          runningCount--;
          if (runningCount === 0) reject(error);
        });
      };
      start();
      cancelTimer = clock.schedule(hedgeAfterMs, start);
    });
  } finally {
    cancelTimer();
    cancellation.cancel(new Error('The other attempt was faster.'));
    cancellation.release();
  }
}
