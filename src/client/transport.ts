import { APIEncoderError, errorOfReply, withTries } from './api-encoder-error.ts';
import {
  type Cancellation,
  type ClientClock,
  createCancellation,
  pause,
  runWithin,
  whenAborted,
} from './cancellation.ts';
import { connectionErrorOf, schemeErrorOf } from './connection-error.ts';
import type { ServerSpread, SpreadServer } from './server-spread.ts';

/** How often and how patiently requests are sent. */
export interface TransportOptions extends RetryTiming {
  readonly servers: ServerSpread;
  readonly timeoutMs: number;
  /** For each server. */
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
 * requests that may reach the server twice, which is true of all of the encoder's. Of several
 * servers, another one is tried at once; only when all have refused does it wait.
 *
 * @returns the reply's body; owned by the caller.
 * @throws APIEncoderError of the last try, or the cancellation's reason.
 */
export async function send(
  options: TransportOptions,
  request: HttpRequest,
  cancellation: Cancellation,
): Promise<Uint8Array> {
  const { clock, random, servers } = options;
  const startMs = clock.now();
  for (let failedCount = 1; ; failedCount++) {
    cancellation.signal.throwIfAborted();
    try {
      return await sendOnce(options, request, failedCount, cancellation);
    } catch (error) {
      cancellation.signal.throwIfAborted();
      if (!(error instanceof APIEncoderError)) throw error;
      const told = withTries(error, { tryCount: failedCount, elapsedMs: clock.now() - startMs });
      const { retryAfterMs } = error;
      const restingMs = isOfServer(error) ? servers.restingMs() : undefined;
      // What no wait can mend at one server, another one may do.
      if (!error.retryable && restingMs !== 0) throw told;
      const plan = { timing: options, failedCount, retryAfterMs, random: random() };
      const delayMs = restingMs ?? planRetryDelayMs(plan);
      const isLast = failedCount > options.retriesMax * servers.count;
      // A wait that the call cannot survive would only delay the news.
      if (isLast || delayMs >= cancellation.remainingMs()) throw told;
      if (restingMs !== 0) await pause({ clock, delayMs, signal: cancellation.signal });
    }
  }
}

function sendOnce(
  options: TransportOptions,
  request: HttpRequest,
  failedCount: number,
  cancellation: Cancellation,
): Promise<Uint8Array> {
  const { signal } = cancellation;
  const { fetch, clock, timeoutMs, hedgeAfterMs, servers, random } = options;
  const attempt = (attemptSignal: AbortSignal): Promise<Uint8Array> => {
    const common = { fetch, clock, signal: attemptSignal };
    const ask = ({ baseUrl }: SpreadServer): Promise<Uint8Array> => {
      const info = { method: 'GET', path: '/info', headers: request.headers } as const;
      const askMs = Math.min(timeoutMs, INFO_TIMEOUT_MS);
      return tryOnce({ ...common, request: info, url: baseUrl + info.path, timeoutMs: askMs });
    };
    const restMs = (error: unknown): number | undefined => {
      if (!(error instanceof APIEncoderError) || !isOfServer(error)) return undefined;
      const { retryAfterMs } = error;
      const rounds = Math.ceil(failedCount / servers.count);
      return planRetryDelayMs({
        ...{ timing: options, failedCount: rounds, retryAfterMs, random: random() },
      });
    };
    const work = typeof request.body === 'string' ? request.body.length : 1;
    return servers.run({ work, restMs, question: { ask, signal: attemptSignal } }, ({ baseUrl }) =>
      tryOnce({
        ...common,
        request: withDeadline(request, Math.min(timeoutMs, cancellation.remainingMs())),
        url: baseUrl + request.path,
        timeoutMs,
      }),
    );
  };
  if (hedgeAfterMs === undefined) return attempt(signal);
  return hedge({ clock, hedgeAfterMs, signal, attempt });
}

/** By which the server learns how long it is waited for. */
const TIMEOUT_HEADER = 'x-timeout-ms';

/** What the way there and back takes of a timeout: its twentieth, and this at most, in ms. */
const WAY_MS_MAX = 2000;

/**
 * Tells the server to be done a little before the client gives up: so it refuses in time what it
 * cannot do by then, computes nothing for nobody, and its words arrive. A header that the caller
 * has set itself stays. Of a GET nobody waits in a queue.
 */
function withDeadline(request: HttpRequest, tryMs: number): HttpRequest {
  if (request.method === 'GET') return request;
  const serverMs = Math.max(1, Math.floor(tryMs - Math.min(tryMs / 20, WAY_MS_MAX)));
  return { ...request, headers: { [TIMEOUT_HEADER]: String(serverMs), ...request.headers } };
}

/** Words about a model are short; a server that is hung is not waited for. */
const INFO_TIMEOUT_MS = 2000;

/** Codes that are about one server's address or state. */
const CODES_OF_SERVER: ReadonlySet<string> = new Set([
  'CLIENT_CONNECTION_FAILED',
  'CLIENT_CONNECTION_REFUSED',
  'CLIENT_HOST_UNKNOWN',
  'CLIENT_TIMEOUT',
  // The same, in the words of the server.
  'EMB_DEADLINE_EXCEEDED',
]);

/** Whether an error says something of the server, and not of the request. */
function isOfServer({ code, status, retryable }: APIEncoderError): boolean {
  if (status === 429 || status === 503) return true;
  return CODES_OF_SERVER.has(code) || (code === 'CLIENT_MODELS_DIFFER' && retryable);
}

/** The part of `fetch` that the client uses. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** A request that can be sent again as it is. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST';
  /** Below the server's address. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: NonNullable<RequestInit['body']>;
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
  url: string;
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
    throw error instanceof APIEncoderError ? error : connectionErrorOf(error, options.url);
  } finally {
    cancelTimer();
    cancellation.release();
  }
}

async function sendAndRead(options: {
  fetch: Fetch;
  request: HttpRequest;
  url: string;
  clock: ClientClock;
  signal: AbortSignal;
}): Promise<Uint8Array> {
  const { fetch, request, url, signal } = options;
  const { path: _, ...init } = request;
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
  options: { fetch: Fetch; url: string; clock: ClientClock; signal: AbortSignal },
  error: unknown,
): Promise<APIEncoderError | undefined> {
  const { fetch, url, clock, signal } = options;
  const { code } = connectionErrorOf(error, url);
  if (signal.aborted || code !== 'CLIENT_CONNECTION_FAILED') return undefined;
  const within = { clock, totalTimeoutMs: SCHEME_PROBE_MS, parent: signal };
  return runWithin(within, (probe) =>
    schemeErrorOf(url, (address) => fetch(address, { method: 'HEAD', signal: probe.signal })),
  );
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
export function hedge<Result>(options: {
  clock: ClientClock;
  hedgeAfterMs: number;
  signal: AbortSignal;
  attempt: (signal: AbortSignal) => Promise<Result>;
}): Promise<Result> {
  const { clock, hedgeAfterMs, signal, attempt } = options;
  let cancelTimer = (): void => {};
  let runningCount = 0;
  return runWithin({ clock, parent: signal }, (attempts) =>
    new Promise<Result>((resolve, reject) => {
      const start = (): void => {
        runningCount++;
        attempt(attempts.signal).then(resolve, (error: unknown) => {
          runningCount--;
          if (runningCount === 0) reject(error);
        });
      };
      start();
      cancelTimer = clock.schedule(hedgeAfterMs, start);
    }).finally(() => {
      cancelTimer();
      attempts.cancel(new Error('The other attempt was faster.'));
    }),
  );
}
