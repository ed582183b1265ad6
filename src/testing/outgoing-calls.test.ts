import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { type FakeTriton, startFakeTriton } from './fake-triton.ts';
import { useDownloadFixture } from './hub/download-fixture.ts';
import { type OtlpCollector, startOtlpCollector } from './otlp-collector.ts';
import { type RecordingProxy, startRecordingProxy } from './recording-proxy.ts';
import { type RunningServer, startServer } from './start-server.ts';
import { until } from './until.ts';

/**
 * Where calls to others go, and what they show: through the environment's proxy or not, with
 * credentials that nobody is shown.
 *
 * Faults that were planted by hand, and that this suite caught: Triton called by a plain fetch; the
 * exporter over `node:http`; credentials left in the address of an endpoint.
 */

setDefaultTimeout(60_000);

const PROXY_VARIABLES = ['HTTP_PROXY', 'http_proxy', 'NO_PROXY', 'no_proxy'];

const download = useDownloadFixture();
let kept: (string | undefined)[];
let proxy: RecordingProxy;
let fake: FakeTriton;
let collector: OtlpCollector;
let server: RunningServer | undefined;

beforeEach(async () => {
  kept = PROXY_VARIABLES.map((name) => process.env[name]);
  for (const name of PROXY_VARIABLES) delete process.env[name];
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  collector = startOtlpCollector();
  proxy = startRecordingProxy();
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  for (const [index, name] of PROXY_VARIABLES.entries()) {
    delete process.env[name];
    if (kept[index] !== undefined) process.env[name] = kept[index];
  }
  await Promise.all([collector.stop(), fake.stop(), proxy.stop()]);
});

const port = (url: string): string => new URL(url).port;

/** A server in front of a Triton that it knows by name, and a text through both. */
async function serve(environment: Record<string, string>): Promise<RunningServer> {
  const running = await startServer({
    TRITON_URL: `http://localhost:${port(fake.url)}`,
    TRITON_RESOLVE_MS: '5000',
    TOKENIZER_WORKERS: '1',
    ...environment,
  });
  server = running;
  await until('it is ready', () => running.parts.backend.state().isReady);
  const encoded = await send(`${running.url}/encode`, '{"query":"договор"}');
  expect(encoded.status).toBe(200);
  return running;
}

/** The test's own calls take no proxy either. */
function send(url: string, body?: string): Promise<Response> {
  const init: object = { proxy: false, ...(body ? { method: 'POST', body } : {}) };
  return fetch(url, init);
}

describe('a proxy in the environment', () => {
  test.each([
    ['NO_PROXY unset', {}],
    ['NO_PROXY with the name', { NO_PROXY: 'localhost' }],
  ])('gets no call to Triton, %s', async (_what, variables) => {
    Object.assign(process.env, { HTTP_PROXY: proxy.url, http_proxy: proxy.url, ...variables });
    // The switch is worth something only if a plain call would have gone there.
    await fetch(`http://127.0.0.1:${port(fake.url)}/v2/health/live`).then((reply) => reply.bytes());
    expect(proxy.asked).toHaveLength(1);
    await serve({});
    expect(proxy.asked).toHaveLength(1);
  });

  test('gets exported traces', async () => {
    process.env.HTTP_PROXY = proxy.url;
    const running = await serve({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
    server = undefined;
    await running.close();
    expect(proxy.asked).toEqual([`${collector.url}/v1/traces`]);
    expect(collector.spans.length).toBeGreaterThan(0);
  });

  test('gets downloads', async () => {
    process.env.HTTP_PROXY = proxy.url;
    await download().download({ path: 'small.json' });
    expect(proxy.asked[0]).toStartWith(download().hub.url);
  });
});

describe('credentials in a URL', () => {
  const SECRET = 's3cret';

  test('are sent to Triton and to the collector, and shown nowhere', async () => {
    const running = await serve({
      TRITON_URL: `http://user:${SECRET}@localhost:${port(fake.url)}`,
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url.replace('//', `//user:${SECRET}@`),
    });
    for (const path of ['/info', '/metrics', '/ready']) {
      expect(await (await send(running.url + path)).text()).not.toContain(SECRET);
    }
    await fake.stop();
    await until('it is down', () => !running.parts.backend.state().isReady);
    expect(await (await send(`${running.url}/ready`)).text()).not.toContain(SECRET);
    server = undefined;
    await running.close();
    expect(running.logLines.filter((line) => line.includes(SECRET))).toEqual([]);
    const basic = `Basic ${btoa(`user:${SECRET}`)}`;
    expect(collector.exports.map(({ headers }) => headers.get('authorization'))).toContain(basic);
    expect(collector.exports.map(({ body }) => body).join()).not.toContain(SECRET);
    expect(fake.inferences.map(({ authorization }) => authorization)).toContain(basic);
  });
});
