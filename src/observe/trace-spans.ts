import type { AsyncLocalStorage } from 'node:async_hooks';
import type { Context, Link, Span, SpanContext, Tracer } from '@opentelemetry/api';
import type { Clock } from '../base/clock.ts';
import type { Tracing } from './tracing.ts';

type Api = typeof import('@opentelemetry/api');

/** Name of a batch's span. */
export const BATCH = 'batch';

/**
 * Where the system's clock begins, in ms since 1970. Spans are given times since then: the library
 * would set others right by an offset of its own for each span, and a stage could end after its
 * request.
 */
const EPOCH_MS = performance.timeOrigin;

/** Spans of requests and their stages. */
export function requestsOf(tools: { api: Api; tracer: Tracer }): Tracing['request'] {
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
export function workOf(tools: {
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
      const traced = [...traces].filter(({ span }) => span.isRecording());
      // A batch of requests that nobody traces is traced by nobody.
      if (traced.length === 0) return work();
      const links = linksTo(traced.map((one) => one.span.spanContext()));
      const span = tracer.startSpan(
        BATCH,
        { startTime: now(), links, attributes },
        api.ROOT_CONTEXT,
      );
      for (const { batches } of traced) batches.push(span.spanContext());
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
