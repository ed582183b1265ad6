import { AsyncLocalStorage } from 'node:async_hooks';
import type { Context, Span, SpanContext } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import { type Clock, sleep } from '../base/clock.ts';
import { describeError, type Log } from '../base/log.ts';
import { BATCH, requestsOf, workOf } from './trace-spans.ts';

/** Spans of requests and batches, sent to a collector. Times are of the server's clock, in ms. */
export interface Tracing {
  /** @param options.traceparent the caller's, when it came with one. */
  request(options: { method: string; traceparent: string | null; startMs: number }): RequestTrace;
  /**
   * Runs one batch inside a span of its own trace, since it serves several requests: both sides
   * link to each other.
   */
  batch<Result>(
    options: { traces: ReadonlySet<RequestTrace>; attributes: Attributes },
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
 * @param options.samplePercent part of the traces that begin here; a caller's own decision holds.
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
  const [api, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const { endpoint, headers, serviceName, version, samplePercent, clock, log } = options;
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/+$/, '')}/v1/traces`,
    headers: { ...headers },
    timeoutMillis: EXPORT_MS_MAX,
  });
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

/** The library keeps a failure to itself, and drops the spans. */
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
