/** A span as a collector gets it, in the JSON of OTLP. */
export interface ExportedSpan {
  readonly name: string;
  readonly kind: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { readonly key: string; readonly value: object }[];
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status: { readonly code?: number };
}

/** A collector of traces that speaks OTLP over HTTP, as far as a test needs it. */
export interface OtlpCollector {
  readonly url: string;
  readonly spans: readonly ExportedSpan[];
  /** Every request: its path, its headers, its body as text. */
  readonly exports: readonly { path: string; headers: Headers; body: string }[];
  stop(): Promise<void>;
}

interface ExportBody {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly ExportedSpan[] }[];
  }[];
}

export function startOtlpCollector(): OtlpCollector {
  const spans: ExportedSpan[] = [];
  const exports: OtlpCollector['exports'][number][] = [];
  const server = Bun.serve({
    hostname: '127.0.0.1',
    port: 0,
    async fetch(request) {
      const body = await request.text();
      exports.push({ path: new URL(request.url).pathname, headers: request.headers, body });
      const { resourceSpans } = JSON.parse(body) as ExportBody;
      for (const { scopeSpans } of resourceSpans) {
        for (const scope of scopeSpans) spans.push(...scope.spans);
      }
      return Response.json({ partialSuccess: {} });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    spans,
    exports,
    stop: () => server.stop(true),
  };
}

/** Value of an attribute, whatever its type; undefined when the span has none such. */
export function attributeOf(span: ExportedSpan, key: string): unknown {
  const found = span.attributes.find((attribute) => attribute.key === key);
  return found === undefined ? undefined : Object.values(found.value)[0];
}
