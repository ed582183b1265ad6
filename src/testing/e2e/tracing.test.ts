import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import {
  attributeOf,
  type ExportedSpan,
  type OtlpCollector,
  startOtlpCollector,
} from '../otlp-collector.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * Traces as a collector gets them, over OTLP and HTTP.
 *
 * Faults that were planted by hand, and that this suite caught: the caller's traceparent ignored,
 * the batch a child of one request, a stage left out, the text of a request in an attribute; who
 * goes along with an equal text linked to nothing, where that waits as where it runs; `coalesced`
 * left out of Server-Timing.
 */

setDefaultTimeout(60_000);

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const STAGES = ['read', 'tokenize', 'queue', 'infer', 'reply'];

let fake: FakeTriton;
let collector: OtlpCollector;
let server: RunningServer;

beforeEach(async () => {
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  collector = startOtlpCollector();
});

afterEach(async () => {
  await server?.close();
  await collector?.stop();
  await fake?.stop();
});

async function start(environment: Record<string, string> = {}): Promise<void> {
  server = await startServer({
    TRITON_URL: fake.url,
    TOKENIZER_WORKERS: '1',
    BACKEND_GRACE_MS: '0',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    ...environment,
  });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
}

function post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(server.url + path, { method: 'POST', body: JSON.stringify(body), headers });
}

/** What was exported once the server has ended, which sends the rest. */
async function exported(): Promise<readonly ExportedSpan[]> {
  await server.close();
  return collector.spans;
}

function named(spans: readonly ExportedSpan[], name: string): ExportedSpan {
  const found = spans.filter((span) => span.name === name);
  if (found.length !== 1) throw new Error(`${found.length} spans are called ${name}`);
  return found[0] as ExportedSpan;
}

const startOf = (span: ExportedSpan): number => Number(BigInt(span.startTimeUnixNano) / 1000n);
const endOf = (span: ExportedSpan): number => Number(BigInt(span.endTimeUnixNano) / 1000n);

describe('a request that is traced', () => {
  test('has one span a stage, inside the caller’s trace, and its batch linked to it', async () => {
    await start();
    const text = 'исковая давность по договору';
    const headers = { traceparent: `00-${TRACE}-${PARENT}-01` };
    expect((await post('/encode', { query: text }, headers)).status).toBe(200);
    const spans = await exported();
    const root = named(spans, 'POST /encode');
    expect([root.traceId, root.parentSpanId]).toEqual([TRACE, PARENT]);
    expect(attributeOf(root, 'http.route')).toBe('/encode');
    expect(Number(attributeOf(root, 'http.response.status_code'))).toBe(200);

    const stages = STAGES.map((stage) => named(spans, stage));
    for (const stage of stages) {
      expect([stage.traceId, stage.parentSpanId]).toEqual([TRACE, root.spanId]);
      expect(startOf(stage)).toBeGreaterThanOrEqual(startOf(root));
      expect(endOf(stage)).toBeLessThanOrEqual(endOf(root));
      expect(endOf(stage)).toBeGreaterThanOrEqual(startOf(stage));
    }
    const starts = stages.map(startOf);
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));

    const batch = named(spans, 'batch');
    expect(batch.traceId).not.toBe(TRACE);
    expect(batch.parentSpanId ?? '').toBe('');
    expect(batch.links?.map(({ spanId }) => spanId)).toEqual([root.spanId]);
    const infer = stages[3] as ExportedSpan;
    expect(infer.links?.map(({ spanId }) => spanId)).toEqual([batch.spanId]);

    const call = named(spans, 'triton');
    expect([call.traceId, call.parentSpanId]).toEqual([batch.traceId, batch.spanId]);
    const received = fake.inferences.flatMap(({ traceparent }) => traceparent ?? []);
    expect(received).toEqual([`00-${call.traceId}-${call.spanId}-01`]);
    expect(collector.exports.filter(({ body }) => body.includes('давность'))).toEqual([]);
  });

  test('shares its batch’s span with the others in it', async () => {
    await start({ LINGER_US: '100000' });
    await Promise.all(['один', 'два', 'три'].map((query) => post('/encode', { query })));
    const spans = await exported();
    const roots = spans.filter(({ name }) => name === 'POST /encode');
    expect(new Set(roots.map(({ traceId }) => traceId)).size).toBe(3);
    const batches = spans.filter(({ name }) => name === 'batch');
    const linked = batches.flatMap(({ links = [] }) => links.map(({ spanId }) => spanId));
    expect(linked.toSorted()).toEqual(roots.map(({ spanId }) => spanId).toSorted());
    expect(batches.length).toBeLessThan(3);
  });

  test.each([
    ['runs', '2'],
    ['waits', '1'],
  ])('that goes along with an equal text that %s is linked to its batch', async (_, slots) => {
    await start({ TRITON_BATCHES_IN_FLIGHT: slots });
    const headers = { 'x-server-timing': '1' };
    const held = Promise.withResolvers<void>();
    fake.behaveOnce({ kind: 'hold', until: held.promise });
    const sent: Promise<Response>[] = [];
    const ask = async (query: string, arrived: () => boolean | Promise<boolean>): Promise<void> => {
      sent.push(post('/encode', { query }, headers));
      await until(`${query} has arrived`, arrived);
    };
    const { batcher } = server.parts;
    // With one slot the second text waits for the first; with two there is nobody before it.
    if (slots === '1') await ask('иск', () => batcher.batchesInFlight === 1);
    await ask(
      'давность',
      () => batcher.batchesInFlight + batcher.foreground.waitingTextCount === sent.length,
    );
    await ask('давность', () => batcher.coalescing.joinedCount === 1);
    held.resolve();
    const replies = await Promise.all(sent);
    const counts = replies.map(({ headers }) =>
      /coalesced;desc="(\d+)"/.exec(headers.get('server-timing') ?? ''),
    );
    expect(counts.map((found) => found?.[1]).slice(-2)).toEqual([undefined, '1']);

    const spans = await exported();
    const roots = spans.filter(({ name }) => name === 'POST /encode').slice(-2);
    const batch = spans.filter(({ name }) => name === 'batch').at(-1) as ExportedSpan;
    const linked = batch.links?.map(({ spanId }) => spanId) ?? [];
    expect(linked.toSorted()).toEqual(roots.map(({ spanId }) => spanId).toSorted());
    for (const { traceId } of roots) {
      const infer = spans.filter((span) => span.name === 'infer' && span.traceId === traceId);
      expect(infer.map(({ links }) => links?.map(({ spanId }) => spanId))).toEqual([
        [batch.spanId],
      ]);
    }
  });

  test('names its error by code, and a server’s fault as one', async () => {
    await start();
    expect((await post('/encode', { query: 7 })).status).toBe(422);
    const refused = { kind: 'status', status: 400, body: '{"error": "no"}' } as const;
    for (let call = 0; call < 4; call++) fake.behaveOnce(refused);
    expect((await post('/v1/embeddings', { model: 'bge-m3', input: 'a' })).status).toBe(502);
    const spans = await exported();
    const wrong = named(spans, 'POST /encode');
    expect([attributeOf(wrong, 'error.type'), wrong.status.code ?? 0]).toEqual([
      'EMB_FIELD_INVALID',
      0,
    ]);
    const failed = named(spans, 'POST /v1/embeddings');
    expect(attributeOf(failed, 'error.type')).toBe('EMB_BACKEND_FAILED');
    expect(failed.status.code).toBe(2);
    expect(named(spans, 'infer').status.code).toBe(2);
  });

  test('is told in the log, so that one is found by the other', async () => {
    await start();
    await post('/encode', { query: 'a' }, { traceparent: `00-${TRACE}-${PARENT}-01` });
    expect(server.logLines.some((one) => one.includes(`"traceId":"${TRACE}"`))).toBe(true);
  });
});

describe('what is kept', () => {
  test('is for the caller’s traceparent to say, and otherwise for the setting', async () => {
    await start({ TRACE_PERCENT: '0' });
    await post('/encode', { query: 'nobody asks' });
    await post(
      '/encode',
      { query: 'refused' },
      { traceparent: `00-${'1'.repeat(32)}-${PARENT}-00` },
    );
    await post('/encode', { query: 'asked' }, { traceparent: `00-${TRACE}-${PARENT}-01` });
    const spans = await exported();
    const requests = spans.filter(({ name }) => name === 'POST /encode');
    expect(requests.map(({ traceId }) => traceId)).toEqual([TRACE]);
    expect(spans.filter(({ name }) => name === 'batch')).toHaveLength(1);
  });

  test.each(['nonsense', `00-${'0'.repeat(32)}-${PARENT}-01`, `ff-${TRACE}-${PARENT}-01`])(
    'traceparent %s is taken for none',
    async (traceparent) => {
      await start();
      await post('/encode', { query: 'a' }, { traceparent });
      const root = named(await exported(), 'POST /encode');
      expect(root.traceId).not.toBe(TRACE);
      expect(root.parentSpanId ?? '').toBe('');
    },
  );

  test('goes to the collector with the headers that it wants', async () => {
    await start({ OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=law%20firm', OTEL_SERVICE_NAME: 'search' });
    await post('/encode', { query: 'a' });
    await exported();
    const [first] = collector.exports;
    expect(first?.path).toBe('/v1/traces');
    expect(first?.headers.get('x-tenant')).toBe('law firm');
    expect(first?.body).toContain('"search"');
  });
});

test.each(['/', '/v1/traces', '/v1/traces/'])(
  'a collector told with %s at its end',
  async (end) => {
    await start({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url + end });
    await post('/encode', { query: 'a' });
    await exported();
    expect(collector.exports[0]?.path).toBe('/v1/traces');
  },
);

describe('a server without a collector', () => {
  test('that has gone serves on, and says so', async () => {
    await start();
    await collector.stop();
    expect((await post('/encode', { query: 'a' })).status).toBe(200);
    await server.close();
    expect(server.logLines.some((line) => line.includes('tracing-failed'))).toBe(true);
  });

  test('that was never set traces nothing', async () => {
    await start({ OTEL_EXPORTER_OTLP_ENDPOINT: '' });
    expect(server.parts.tracing).toBeUndefined();
    await post('/encode', { query: 'a' }, { traceparent: `00-${TRACE}-${PARENT}-01` });
    expect(fake.inferences.flatMap(({ traceparent }) => traceparent ?? [])).toEqual([]);
    expect(collector.exports).toEqual([]);
  });

  test('loads none of the packages that trace: they are imported where tracing begins', () => {
    const folder = join(import.meta.dir, '../..');
    const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    const eager = files
      .filter((path) => path.endsWith('.ts'))
      .filter((path) =>
        /^import (?!type\b)[^;]*from '@opentelemetry/m.test(
          readFileSync(join(folder, path), 'utf8'),
        ),
      );
    expect(eager).toEqual([]);
  });
});
