import { AsyncLocalStorage } from 'node:async_hooks';
import type { Context, Link, Span, SpanContext, Tracer } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import { type Clock, sleep } from '../base/clock.ts';
import { describeError, type Log } from '../base/log.ts';
import { splitCredentials } from '../base/url-credentials.ts';

/** Spans of requests and batches, sent to a collector. Times are of the server's clock, in ms. */
export interface Tracing {
  /** @param options.traceparent the caller's, when it came with one. */
  request(options: { method: string; traceparent: string | null; startMs: number }): RequestTrace;
  /**
   * Runs one batch inside a span of its own trace, since it serves several requests: both sides
   * link to each other.
   */
  batch<Result>(
    options: { traces: BatchTraces; attributes: Attributes },
    work: () => Promise<Result>,
  ): Promise<Result>;
  /**
   * Runs one call to another server that a traced batch makes; `work` is given the `traceparent` to
   * send. Undefined, and nothing runs, outside such a batch.
   */
  call<Result>(
    address: string,
    work: (traceparent: string) => { result: Result; done: Promise<unknown> },
  ): Result | undefined;
  /** Sends what is left, in bounded time. */
  close(): Promise<void>;
}

/** What a span may tell. Never a text or a key. */
export type Attributes = Readonly<Record<string, string | number>>;

/** One request, from its head to its reply. */
export interface RequestTrace {
  readonly traceId: string;
  readonly span: Span;
  /** Spans of the batches that carried its texts. */
  readonly batches: SpanContext[];
  /** One stage that is over. */
  stage(name: string, times: StageTimes): void;
  end(options: { route: string; status: number; code: string | undefined; endMs: number }): void;
}

/**
 * The traced requests that wait for a batch: whose texts it carries, those of equal texts, and who
 * comes with such a one while it runs.
 */
export class BatchTraces {
  readonly #requests = new Set<RequestTrace>();
  #link: (request: RequestTrace) => void = () => undefined;

  add(request: RequestTrace): void {
    if (this.#requests.has(request)) return;
    this.#requests.add(request);
    this.#link(request);
  }

  /** @param link called for each of them, also for those that come later. */
  linkEach(link: (request: RequestTrace) => void): void {
    this.#link = link;
    for (const request of this.#requests) link(request);
  }

  /** Whether any of them is kept. */
  get areRecorded(): boolean {
    return [...this.#requests].some(({ span }) => span.isRecording());
  }
}

/** A text of a batch, as far as it is traced. */
export interface TracedText {
  readonly request: { readonly trace?: RequestTrace | undefined };
  /** Texts that get what this one gets. */
  readonly along?: ReadonlySet<Pick<TracedText, 'request'>> | undefined;
  /** Of the batch that it runs in, where a request of it is traced. */
  traces?: BatchTraces | undefined;
}

/** The traces of the requests that wait for a batch. Makes nothing when none is traced. */
export function tracesOf(texts: readonly TracedText[]): BatchTraces | undefined {
  let traces: BatchTraces | undefined;
  for (const text of texts) {
    for (const { request } of text.along === undefined ? [text] : [text, ...text.along]) {
      if (request.trace === undefined) continue;
      traces ??= new BatchTraces();
      traces.add(request.trace);
    }
  }
  // Who comes with an equal text while it runs is told by the text.
  if (traces !== undefined) for (const text of texts) text.traces = traces;
  return traces;
}

/** When a stage began and ended, and why it failed. */
export interface StageTimes {
  readonly startMs: number;
  readonly endMs: number;
  readonly error?: unknown;
}

/** How long a collector may take to answer, tries again included, in ms: it is near. */
const EXPORT_MS_MAX = 2000;

/** How long an end waits for the collector, in ms; a drain has gone before. */
const CLOSE_MS_MAX = 3000;

/**
 * Starts tracing. The packages that do it are loaded here and not before, so that a server without
 * tracing pays nothing.
 *
 * @param options.endpoint base URL of a collector that speaks OTLP over HTTP.
 * @param options.samplePercent sampling rate of traces that start here; a caller's decision holds.
 */
export async function createTracing(options: {
  endpoint: string;
  headers: Readonly<Record<string, string>>;
  serviceName: string;
  version: string;
  samplePercent: number;
  clock: Clock;
  log: Log;
}): Promise<Tracing> {
  const [api, sdk, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/resources'),
  ]);
  const { serviceName, version, samplePercent, clock, log } = options;
  const { url: endpoint, authorization } = splitCredentials(options.endpoint);
  const headers = { ...(authorization ? { authorization } : {}), ...options.headers };
  // Some write the whole address of the call, which the standard's variable is the base of.
  const base = endpoint.replace(/\/+$/, '').replace(/\/v1\/traces$/, '');
  const exporter = await openExporter(`${base}/v1/traces`, headers);
  const root = new sdk.TraceIdRatioBasedSampler(samplePercent / 100);
  const sampler = new sdk.ParentBasedSampler({ root });
  const { RECORD_AND_SAMPLED } = sdk.SamplingDecision;
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({ 'service.name': serviceName, 'service.version': version }),
    sampler: {
      // A batch is nobody's child; it is only begun when one of its requests is traced.
      shouldSample: (context, traceId, name, ...rest) =>
        name === BATCH
          ? { decision: RECORD_AND_SAMPLED }
          : sampler.shouldSample(context, traceId, name, ...rest),
    },
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: telling(exporter, log) })],
  });
  log.info('tracing', { endpoint, serviceName, samplePercent });
  const tracer = provider.getTracer('bge-m3-encoder', version);
  const scopes = new AsyncLocalStorage<Context>();
  return {
    request: requestsOf({ api, tracer }),
    ...workOf({ api, tracer, scopes, clock }),
    async close() {
      const sent = provider.shutdown().catch(() => undefined);
      await Promise.race([sent, sleep(clock, CLOSE_MS_MAX)]);
    },
  };
}

/**
 * The library's exporter over `fetch`, which heeds the environment's proxy: a collector may well be
 * outside. The one for Node sends over `node:http`, which does not.
 */
async function openExporter(url: string, headers: Record<string, string>): Promise<SpanExporter> {
  const [{ OTLPExporterBase }, { createLegacyOtlpBrowserExportDelegate }, transformer] =
    await Promise.all([
      import('@opentelemetry/otlp-exporter-base'),
      import('@opentelemetry/otlp-exporter-base/browser-http'),
      import('@opentelemetry/otlp-transformer'),
    ]);
  const { JsonTraceSerializer, TraceExporterMetricsHelper } = transformer;
  const delegate = createLegacyOtlpBrowserExportDelegate(
    { url, headers, timeoutMillis: EXPORT_MS_MAX },
    JsonTraceSerializer,
    'otlp_http_span_exporter',
    TraceExporterMetricsHelper,
    undefined,
    'v1/traces',
    { 'Content-Type': 'application/json' },
  );
  return new OTLPExporterBase(delegate);
}

/** Logs failed exports: the library drops the spans and says nothing. */
function telling(exporter: SpanExporter, log: Log): SpanExporter {
  return {
    export(spans, onDone) {
      exporter.export(spans, (result) => {
        const reason = describeError(result.error).slice(0, 300);
        if (result.error !== undefined) log.warn('tracing-failed', { spans: spans.length, reason });
        onDone(result);
      });
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  };
}

type Api = typeof import('@opentelemetry/api');

/** Name of a batch's span. */
const BATCH = 'batch';

/**
 * When the system's clock began, in ms since 1970. Spans get absolute times: to relative ones the
 * library adds an offset of its own for each span, and a stage could end after its request.
 */
const EPOCH_MS = performance.timeOrigin;

/** Spans of requests and their stages. */
function requestsOf(tools: { api: Api; tracer: Tracer }): Tracing['request'] {
  const { api, tracer } = tools;
  return ({ method, traceparent, startMs }) => {
    const parent = contextOf(api, traceparent);
    const span = tracer.startSpan(
      method,
      {
        kind: api.SpanKind.SERVER,
        startTime: EPOCH_MS + startMs,
        attributes: { 'http.request.method': method },
      },
      parent,
    );
    const context = api.trace.setSpan(parent, span);
    const batches: SpanContext[] = [];
    return {
      traceId: span.spanContext().traceId,
      span,
      batches,
      stage(name, times) {
        const links = name === 'infer' ? linksTo(batches) : [];
        const stage = tracer.startSpan(
          name,
          { startTime: EPOCH_MS + times.startMs, links },
          context,
        );
        if (times.error !== undefined) fail(api, stage, times.error);
        stage.end(EPOCH_MS + times.endMs);
      },
      end({ route, status, code, endMs }) {
        span.updateName(`${method} ${route}`);
        span.setAttributes({ 'http.route': route, 'http.response.status_code': status });
        if (code !== undefined) span.setAttribute('error.type', code);
        // By custom, a server's span is no error for what the caller did wrong.
        if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
        span.end(EPOCH_MS + endMs);
      },
    };
  };
}

/**
 * Spans of batches, and of the calls that they make.
 *
 * @param tools.scopes the batch in whose work a call is made: the wire does not know of tracing.
 */
function workOf(tools: {
  api: Api;
  tracer: Tracer;
  scopes: AsyncLocalStorage<Context>;
  clock: Clock;
}): Pick<Tracing, 'batch' | 'call'> {
  const { api, tracer, scopes, clock } = tools;
  const now = (): number => EPOCH_MS + clock.now();

  async function settle<Result>(span: Span, work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      fail(api, span, error);
      throw error;
    } finally {
      span.end(now());
    }
  }

  return {
    batch({ traces, attributes }, work) {
      // A batch of requests that nobody traces is traced by nobody.
      if (!traces.areRecorded) return work();
      const span = tracer.startSpan(BATCH, { startTime: now(), attributes }, api.ROOT_CONTEXT);
      traces.linkEach(({ span: request, batches }) => {
        if (!request.isRecording()) return;
        span.addLink({ context: request.spanContext() });
        batches.push(span.spanContext());
      });
      const context = api.trace.setSpan(api.ROOT_CONTEXT, span);
      return settle(span, scopes.run(context, work));
    },
    call(address, work) {
      const context = scopes.getStore();
      if (context === undefined) return undefined;
      const attributes = { 'url.full': address, 'http.request.method': 'POST' };
      const kind = api.SpanKind.CLIENT;
      const span = tracer.startSpan('triton', { kind, startTime: now(), attributes }, context);
      const { result, done } = work(traceparentOf(span.spanContext()));
      settle(span, done).catch(() => undefined);
      return result;
    },
  };
}

/** https://www.w3.org/TR/trace-context/: version, trace, span, flags. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})/;

function contextOf(api: Api, traceparent: string | null): Context {
  const match = TRACEPARENT.exec(traceparent ?? '');
  if (match === null) return api.ROOT_CONTEXT;
  const [, traceId, spanId, flags] = match;
  const traceFlags = Number.parseInt(flags, 16) & api.TraceFlags.SAMPLED;
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags,
    isRemote: true,
  });
}

function traceparentOf({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}

function linksTo(contexts: readonly SpanContext[]): Link[] {
  return contexts.map((context) => ({ context }));
}

/** The code of our own errors; of others the name alone, since their words may quote a text. */
function fail(api: Api, span: Span, error: unknown): void {
  const { code, name } = error as { code?: string; name?: string };
  span.setAttribute('error.type', code ?? name ?? 'unknown');
  span.setStatus({ code: api.SpanStatusCode.ERROR });
}
