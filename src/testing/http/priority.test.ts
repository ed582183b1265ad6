import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { APIEncoder } from '../../client/api-encoder.ts';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { scrape } from '../scraped-metrics.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/** Texts of a job beside those of people, as callers of a whole server see it. */

setDefaultTimeout(60_000);

const BODIES: Readonly<Record<string, unknown>> = {
  '/encode': { query: 'тест' },
  '/score': { query: 'а', texts: ['б'] },
  '/v1/embeddings': { input: 'тест' },
  '/embed': { inputs: 'тест' },
  '/rerank': { query: 'а', texts: ['б'] },
  '/similarity': { inputs: { source_sentence: 'а', sentences: ['б'] } },
  '/api/embed': { model: 'bge-m3', input: 'тест' },
  '/v2/embed': {
    texts: ['тест'],
    model: 'bge-m3',
    input_type: 'search_query',
    embedding_types: ['float'],
  },
  '/v1/encode/bge-m3': { items: [{ text: 'тест' }] },
  '/vectors': { text: 'тест' },
};

/** No text of these goes to the model: nothing waits, and nothing is counted. */
const WITHOUT_MODEL: Readonly<Record<string, unknown>> = {
  '/tokenize': { inputs: 'тест' },
  '/decode': { ids: [0, 2] },
  '/api/show': { model: 'bge-m3' },
  '/api/pull': { model: 'bge-m3' },
};

describe('x-priority', () => {
  let fake: FakeTriton;
  let server: RunningServer;

  beforeAll(async () => {
    const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: 'bge_model', ...shape });
    const small = { QUEUE_HOLD_MS: '0', BACKGROUND_TEXTS_MAX: '4', QUEUE_TEXTS_MAX: '2048' };
    const triton = { TRITON_URL: fake.url, TRITON_PROBE_MS: '20' };
    server = await startServer({ ...triton, ...small, TOKENIZER_WORKERS: '1' });
    await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  });

  afterAll(async () => {
    await server?.close();
    await fake?.stop();
  });

  const post = (path: string, body: unknown, priority?: string) =>
    fetch(`${server.url}${path}`, {
      method: 'POST',
      headers: priority === undefined ? {} : { 'x-priority': priority },
      body: JSON.stringify(body),
    });
  const texts = async (): Promise<number> =>
    (await scrape(server.url)).get('bge_encoder_background_texts_total') ?? 0;
  const refusedOfJobs = async (): Promise<number> =>
    (await scrape(server.url)).get('bge_encoder_background_requests_total{status="429"}') ?? 0;

  test.each(Object.keys(BODIES))('%s takes it', async (path) => {
    const before = await texts();
    const [plain, told] = [
      await post(path, BODIES[path]),
      await post(path, BODIES[path], 'background'),
    ];
    expect([plain.status, told.status]).toEqual([200, 200]);
    expect(await texts()).toBeGreaterThan(before);
  });

  test.each(Object.keys(WITHOUT_MODEL))('%s answers the same with it', async (path) => {
    const before = await texts();
    const plain = await post(path, WITHOUT_MODEL[path]);
    const told = await post(path, WITHOUT_MODEL[path], 'background');
    expect([plain.status, told.status]).toEqual([200, 200]);
    expect(await told.text()).toBe(await plain.text());
    expect(await texts()).toBe(before);
  });

  test('every route that takes a body refuses another word by its name', async () => {
    const { paths } = (await (await fetch(`${server.url}/swagger/json`)).json()) as {
      paths: Readonly<Record<string, { post?: { parameters?: readonly { name: string }[] } }>>;
    };
    const posted = Object.entries(paths).filter(([, { post: route }]) => route !== undefined);
    expect(posted.length).toBeGreaterThan(Object.keys(BODIES).length);
    for (const [path, { post: route }] of posted) {
      const mistyped = await post(path.replace(/\{\w+\}/, 'bge-m3'), {}, 'backgroud');
      expect(mistyped.status).toBeWithin(400, 500);
      expect(await mistyped.text()).toContain('x-priority must be one of foreground, background');
      expect(route?.parameters?.map(({ name }) => name)).toContain('x-priority');
    }
  });

  test('a full background queue refuses the background alone, by its own rate', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.behaveOnce({ kind: 'hold', until: promise });
    try {
      const query = ['а', 'б', 'в', 'г'];
      const refusedBefore = await refusedOfJobs();
      const first = post('/encode', { query }, 'background');
      await until('it is admitted', () => server.parts.backgroundAdmission.admittedTextCount === 4);
      const refused = await post('/encode', { query: 'д' }, 'background');
      expect(refused.status).toBe(429);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
      expect((await refusedOfJobs()) - refusedBefore).toBe(1);
      expect(await refused.text()).toContain('The background queue is full: 5 texts would wait');
      expect((await post('/encode', { query: Array(600).fill('е') })).status).toBe(200);
      resolve();
      expect((await first).status).toBe(200);
    } finally {
      resolve();
    }
  });

  test('the client says it, for all calls or for one', async () => {
    const before = await texts();
    const job = new APIEncoder(server.url, { priority: 'background' });
    await job.encode('тест');
    await job.encode('тест', { priority: 'foreground' });
    await job.score('а', ['б']);
    const people = new APIEncoder(server.url);
    await people.encode('тест');
    await people.encode('тест', { priority: 'background' });
    expect((await texts()) - before).toBe(1 + 2 + 1);
    await Promise.all([job.close(), people.close()]);
  });

  test('its times are told apart', async () => {
    const count = async (labels: string): Promise<number> =>
      (await scrape(server.url)).get(`bge_encoder_${labels}`) ?? 0;
    const stage = (name: string) => count(`stage_duration_seconds_count{stage="${name}"}`);
    const before = [await stage('queue'), await stage('background-queue')];
    const ofRoute = 'request_duration_seconds_count{route="/encode"}';
    const requests = await count(ofRoute);
    await post('/encode', { query: 'тест' }, 'background');
    expect([await stage('queue'), await stage('background-queue')]).toEqual([
      before[0],
      before[1] + 1,
    ]);
    expect(await count(ofRoute)).toBe(requests);
    expect(await count('request_duration_seconds_count{route="background"}')).toBeGreaterThan(0);
  });
});
