import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { Elysia } from 'elysia';
import { systemClock } from '../base/clock.ts';
import { createMetrics } from '../observe/metrics.ts';
import { type FakeTriton, startFakeTriton } from '../testing/fake-triton.ts';
import { type Scrape, scrape } from '../testing/scraped-metrics.ts';
import { type RunningServer, startServer } from '../testing/start-server.ts';
import { until } from '../testing/until.ts';
import { createObserver } from './observer.ts';

/** What a whole server counts, held against what was sent to it. */

setDefaultTimeout(60_000);

describe('a server that is watched', () => {
  let fake: FakeTriton;
  let server: RunningServer;

  beforeAll(async () => {
    const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: 'bge_model', ...shape });
    const keys = { API_KEYS: 'right', KEYLESS_PATHS: '/metrics,/health,/ready' };
    const triton = { TRITON_URL: fake.url, TRITON_PROBE_MS: '20', TRITON_TIMEOUT_MS: '500' };
    server = await startServer({ ...triton, TOKENIZER_WORKERS: '1', ...keys });
    await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  });

  afterAll(async () => {
    await server?.close();
    await fake?.stop();
  });

  const post = (path: string, body: string, headers: Record<string, string> = {}) =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      body,
      headers: { authorization: 'Bearer right', ...headers },
    });

  /** By how much samples have grown while something was done. */
  async function growth(work: () => Promise<unknown>): Promise<(sample: string) => number> {
    const before: Scrape = await scrape(server.url);
    await work();
    const after = await scrape(server.url);
    return (sample) => (after.get(sample) ?? 0) - (before.get(sample) ?? 0);
  }

  // Caught: the texts that the cache was asked for, which only grow, were a gauge.
  test('what only grows is a counter by type and by name', async () => {
    const triton = { TRITON_URL: fake.url, TOKENIZER_WORKERS: '1' };
    const caching = await startServer({ ...triton, CACHE_BYTES: '1000000' });
    const text = await (await fetch(`${caching.url}/metrics`)).text();
    await caching.close();
    const named = (type: string): string[] =>
      Array.from(text.matchAll(/^# TYPE (bge_encoder_\w+) (\w+)$/gm))
        .filter(([, , given]) => given === type)
        .map(([, name]) => name ?? '');
    const isTotal = (name: string): boolean => name.endsWith('_total');
    expect(named('counter')).toContain('bge_encoder_cache_texts_total');
    expect(named('counter').filter((name) => !isTotal(name))).toEqual([]);
    expect(named('gauge').filter(isTotal)).toEqual([]);
  });

  test('counts requests, texts, tokens and cuts as the replies tell them', async () => {
    let tokens: number[] = [];
    const grown = await growth(async () => {
      const query = ['исковая давность', 'рецепт борща', 'а '.repeat(9000)];
      const reply = await post('/encode', JSON.stringify({ query }));
      const body = (await reply.json()) as { tokens: number[]; truncated: boolean[] };
      expect(body.truncated).toEqual([false, false, true]);
      tokens = body.tokens;
    });
    expect(grown('bge_encoder_requests_total{route="/encode",status="200"}')).toBe(1);
    expect(grown('bge_encoder_texts_total')).toBe(3);
    expect(grown('bge_encoder_tokens_total')).toBe(tokens.reduce((sum, count) => sum + count, 0));
    expect(grown('bge_encoder_truncated_texts_total')).toBe(1);
    for (const stage of ['read', 'tokenize', 'queue', 'infer', 'reply']) {
      expect(grown(`bge_encoder_stage_duration_seconds_count{stage="${stage}"}`)).toBe(1);
      expect(grown(`bge_encoder_stage_duration_seconds_sum{stage="${stage}"}`)).toBeGreaterThan(0);
    }
    expect(grown('bge_encoder_batch_texts_sum')).toBe(3);
    const [real, padded] = [grown('bge_encoder_batch_tokens_total'), 'batch_padded_tokens_total'];
    expect(grown(`bge_encoder_${padded}`)).toBeGreaterThanOrEqual(real);
  });

  test('counts errors by code, whatever shape the API gives them, refusals included', async () => {
    const grown = await growth(async () => {
      await post('/encode', '{}');
      await post('/v1/embeddings', '{"model": "bge-m3"}');
      await post('/tokenize', '{}');
      await post('/encode', '{"query": "a"}', { authorization: 'Bearer wrong' });
      await fetch(`${server.url}/no-such-path-as-this`, { headers: { 'x-api-key': 'right' } });
      await post(`/another-${crypto.randomUUID()}`, '');
    });
    expect(grown('bge_encoder_errors_total{code="EMB_FIELD_MISSING"}')).toBe(3);
    expect(grown('bge_encoder_errors_total{code="EMB_KEY_INVALID"}')).toBeGreaterThanOrEqual(1);
    expect(grown('bge_encoder_errors_total{code="EMB_ROUTE_UNKNOWN"}')).toBeGreaterThanOrEqual(1);
    expect(grown('bge_encoder_requests_total{route="/encode",status="422"}')).toBe(1);
    const routes = [...(await scrape(server.url)).keys()].filter((key) => key.includes('route='));
    expect(routes.filter((key) => key.includes('another-'))).toEqual([]);
  });

  test('tells its stages to a caller that asks for them, and to nobody else', async () => {
    const asked = await post('/encode', '{"query": "a"}', { 'x-server-timing': '1' });
    const stages = asked.headers
      .get('server-timing')
      ?.split(', ')
      .map((part) => part.split(';')[0]);
    expect(stages).toEqual(['read', 'tokenize', 'queue', 'infer', 'reply']);
    expect((await post('/encode', '{"query": "a"}')).headers.has('server-timing')).toBe(false);
  });

  test('logs each reply without a text or a key', async () => {
    const secret = `тайна-${crypto.randomUUID()}`;
    const [id, from] = [crypto.randomUUID(), server.logLines.length];
    await post('/encode', JSON.stringify({ query: secret }), { 'x-request-id': id });
    await post('/encode', JSON.stringify({ query: [secret, 7] }), { 'x-request-id': id });
    const lines = server.logLines.slice(from);
    const requests = lines.map((line) => JSON.parse(line)).filter((line) => line.requestId === id);
    expect(requests.filter(({ event }) => event === 'request')).toMatchObject([
      { level: 'debug', method: 'POST', route: '/encode', status: 200 },
      { level: 'debug', method: 'POST', route: '/encode', status: 422, code: 'EMB_FIELD_INVALID' },
    ]);
    expect(lines.filter((line) => line.includes(secret) || line.includes('right'))).toEqual([]);
  });

  test('shows when an endpoint goes', async () => {
    const up = `bge_encoder_backend_endpoint_up{endpoint="${fake.url}"}`;
    expect((await scrape(server.url)).get(up)).toBe(1);
    expect((await scrape(server.url)).get('bge_encoder_ready')).toBe(1);
    await fake.stop();
    await until('the endpoint is down', async () => (await scrape(server.url)).get(up) === 0);
    expect((await scrape(server.url)).get('bge_encoder_ready')).toBe(0);
  });
});

test('counts what was late at one endpoint and was sent to another too', async () => {
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
  const [one, two] = await Promise.all(
    [0, 1].map(() => startFakeTriton({ model: 'bge_model', ...shape })),
  );
  const triton = { TRITON_URL: `${one.url},${two.url}`, TRITON_TIMEOUT_MS: '30000' };
  const server = await startServer({ ...triton, TOKENIZER_WORKERS: '1' });
  const told = async (name: string): Promise<(number | undefined)[]> => {
    const samples = await scrape(server.url);
    const of = ({ url }: FakeTriton): string =>
      `bge_encoder_backend_endpoint_${name}{endpoint="${url}"}`;
    return [samples.get(of(one)), samples.get(of(two))];
  };
  const ask = async (query: string): Promise<void> => {
    const body = JSON.stringify({ query });
    expect((await fetch(`${server.url}/encode`, { method: 'POST', body })).status).toBe(200);
  };
  await until('both are up', async () => (await told('up')).every((value) => value === 1));
  // How long a batch takes is known after some of them; what one is late by is little then.
  for (let index = 0; index < 20; index++) await ask(`срок ${index}`);
  expect(await told('second_tries_total')).toEqual([0, 0]);
  // Of two with nothing to do, the first is taken.
  one.behave({ kind: 'stall' });
  await ask('исковая давность');
  expect(await told('second_tries_total')).toEqual([1, 0]);
  expect(await told('second_tries_won_total')).toEqual([1, 0]);
  expect(await told('late')).toEqual([1, 0]);
  await server.close();
  await Promise.all([one.stop(), two.stop()]);
});

/** Caught: a function that returned what it called, which Elysia takes for a promise. */
test('a request enters its route at once, and waits for no hook', () => {
  const watched = { metrics: createMetrics(), clock: systemClock };
  const observer = createObserver({ ...watched, writeAccess: undefined, tracing: undefined });
  const app = new Elysia();
  observer.addTo(app);
  let isEntered = false;
  app.get('/entered', () => {
    isEntered = true;
    return 'yes';
  });
  void app.handle(new Request('http://localhost/entered'));
  expect(isEntered).toBe(true);
});
