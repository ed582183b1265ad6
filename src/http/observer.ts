import type { Elysia } from 'elysia';
import type { Clock } from '../base/clock.ts';
import { LinkedList } from '../base/linked-list.ts';
import type { Log } from '../base/log.ts';
import type { Encode, StageTimings } from '../encode/contract.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { RequestTrace, Tracing } from '../observe/tracing.ts';
import type { WatchedEncode } from './context.ts';
import { ERROR_CODE_HEADER, REQUEST_ID_HEADER } from './error-reply.ts';
import { serverTiming } from './response.ts';

/** Header by which a caller asks for the `Server-Timing` of this one reply; its value is free. */
export const SERVER_TIMING_HEADER = 'x-server-timing';

/** Sees every request from its head to its reply. */
export interface Observer {
  /** Adds itself before any route is added, so that it sees all of them. */
  addTo(app: Elysia): void;
  /** The same journey, watched. */
  watching(encode: Encode): WatchedEncode;
  /** Counts a reply that no route gave: an unknown path, an error outside of a handler. */
  ended(request: Request, reply: Response): void;
}

/** What is known of a request while it runs. */
interface Observed {
  readonly startMs: number;
  /** When its first text entered the journey, and its last one left it; 0 until then. */
  encodeStartMs: number;
  encodeEndMs: number;
  timings: StageTimings | undefined;
  /** Its times are told apart: a job waits as people must not. */
  isBackground: boolean;
  readonly trace: RequestTrace | undefined;
}

/**
 * Where a request carries what is known of it. A WeakMap takes a tenth of a µs more, and each
 * collection of garbage goes through it.
 */
const OBSERVED = Symbol('observed');

interface ObservedRequest extends Request {
  [OBSERVED]?: Observed;
}

/** Label of requests without a route. Paths would be unbounded: callers choose them. */
const NO_ROUTE = 'none';

/**
 * Counts and times requests.
 *
 * @param options.tracing undefined leaves it off.
 * @param options.writeAccess logs each reply; undefined where no one reads it.
 */
export function createObserver(options: {
  metrics: Metrics;
  clock: Clock;
  writeAccess: Log['info'] | undefined;
  tracing: Tracing | undefined;
}): Observer {
  const { metrics, clock, tracing, writeAccess } = options;
  /** In the order in which they came: the first is the oldest. */
  const encoding = new LinkedList<{ readonly startMs: number; readonly isBackground: boolean }>();
  metrics.gauge(
    { name: 'bge_encoder_encodes_in_flight', help: 'Requests whose texts are being encoded.' },
    () => encoding.size,
  );
  metrics.gauge(
    {
      name: 'bge_encoder_oldest_encode_age_seconds',
      help: 'Age of the oldest request whose texts are being encoded, those of the background left out.',
      together: 'max',
    },
    () => {
      for (const { startMs, isBackground } of encoding) {
        if (!isBackground) return (clock.now() - startMs) / 1000;
      }
      return 0;
    },
  );

  function begin(request: ObservedRequest): void {
    const startMs = clock.now();
    const trace = tracing === undefined ? undefined : traceOf(tracing, request, startMs);
    request[OBSERVED] = {
      startMs,
      encodeStartMs: 0,
      encodeEndMs: 0,
      timings: undefined,
      isBackground: false,
      trace,
    };
  }

  function end(
    request: ObservedRequest,
    { route, status, response }: { route: string; status: number; response: Response | undefined },
  ): void {
    const observed = request[OBSERVED];
    if (observed === undefined) return;
    const nowMs = clock.now();
    const durationMs = nowMs - observed.startMs;
    metrics.request(route, status, durationMs, observed.isBackground);
    const code = status < 400 ? null : (response?.headers.get(ERROR_CODE_HEADER) ?? null);
    if (code !== null) metrics.error(code);
    if (observed.timings !== undefined) tellStages(observed, request, response, nowMs);
    observed.trace?.end({ route, status, code: code ?? undefined, endMs: nowMs });
    writeAccess?.('request', {
      method: request.method,
      route,
      status,
      ms: Math.round(durationMs * 1000) / 1000,
      code: code ?? undefined,
      requestId: response?.headers.get(REQUEST_ID_HEADER) ?? undefined,
      traceId: observed.trace?.traceId,
    });
  }

  function tellStages(
    { startMs, encodeStartMs, encodeEndMs, timings, trace }: Observed,
    request: Request,
    response: Response | undefined,
    nowMs: number,
  ): void {
    const readMs = encodeStartMs - startMs;
    const replyMs = nowMs - encodeEndMs;
    metrics.stage('read', readMs);
    metrics.stage('reply', replyMs);
    trace?.stage('read', { startMs, endMs: encodeStartMs });
    trace?.stage('reply', { startMs: encodeEndMs, endMs: nowMs });
    if (timings === undefined || response === undefined) return;
    if (request.headers.has(SERVER_TIMING_HEADER) && !response.headers.has('server-timing')) {
      response.headers.set('server-timing', serverTiming({ readMs, ...timings, replyMs }));
    }
  }

  return {
    addTo(app) {
      // Elysia reads these functions: whoever passes the whole context on is given everything in
      // it, parsed headers and query included, for 12 µs a request. What one returns is awaited,
      // by each request before its route.
      app.onRequest(({ request }) => {
        begin(request);
      });
      app.onAfterHandle(({ request, route, set, responseValue }) => {
        const response = responseValue instanceof Response ? responseValue : undefined;
        end(request, { route, status: response?.status ?? Number(set.status ?? 200), response });
      });
    },
    ended: (request, response) =>
      end(request, { route: NO_ROUTE, status: response.status, response }),
    watching: (encode) => async (asked, request: ObservedRequest) => {
      const observed = request[OBSERVED];
      const { isBackground = false } = asked;
      const entry = { startMs: clock.now(), isBackground };
      if (observed !== undefined) observed.isBackground = isBackground;
      if (observed !== undefined && observed.encodeStartMs === 0) {
        observed.encodeStartMs = entry.startMs;
      }
      const link = encoding.add(entry);
      try {
        const trace = observed?.trace;
        const result = await encode(trace === undefined ? asked : { ...asked, trace });
        tellWork(metrics, result, isBackground);
        if (observed !== undefined) {
          observed.encodeEndMs = clock.now();
          observed.timings = result.timings;
        }
        return result;
      } finally {
        encoding.remove(link);
      }
    },
  };
}

/** Only work is traced: nobody wants traces of health checks and scrapes. */
function traceOf(tracing: Tracing, request: Request, startMs: number): RequestTrace | undefined {
  if (request.method !== 'POST') return undefined;
  const traceparent = request.headers.get('traceparent');
  return tracing.request({ method: request.method, traceparent, startMs });
}

function tellWork(
  metrics: Metrics,
  result: Awaited<ReturnType<Encode>>,
  isBackground: boolean,
): void {
  const { tokenCounts, truncated, timings } = result;
  let tokenCount = 0;
  for (const count of tokenCounts) tokenCount += count;
  let truncatedCount = 0;
  for (const isTruncated of truncated) if (isTruncated) truncatedCount++;
  const textCount = tokenCounts.length;
  metrics.texts({ textCount, tokenCount, truncatedCount });
  if (isBackground) metrics.background({ textCount, tokenCount });
  metrics.stage('tokenize', timings.tokenizeMs);
  metrics.stage(isBackground ? 'background-queue' : 'queue', timings.queueMs);
  metrics.stage('infer', timings.inferMs);
}
