import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/** Paths and headers of Azure, Baseten and Weaviate, against our own routes. */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'рецепт борща'];

let server: RunningServer;
/** With a key, and the one name of its model. */
let strict: RunningServer;

beforeAll(async () => {
  [server, strict] = await Promise.all([
    startHeadsServer(),
    startHeadsServer({ STRICT_MODEL: 'on', API_KEYS: 'a-good-key' }),
  ]);
});

afterAll(async () => {
  await server?.close();
  await strict?.close();
});

async function ask(path: string, body: unknown, headers: Record<string, string> = {}, to = server) {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  // A body of bytes: fetch adds no Content-Type, and neither does Weaviate.
  const reply = await fetch(to.url + path, { method: 'POST', headers, body: bytes });
  return { status: reply.status, body: await reply.json() };
}

const rows = async (): Promise<number[][]> =>
  (await ask('/encode', { query: TEXTS })).body.embeddings;

describe('Azure', () => {
  const path = '/openai/deployments/small/embeddings?api-version=2024-10-21';
  const key = { 'api-key': 'a-good-key' };

  test('answers as /v1/embeddings, with the key in api-key', async () => {
    const right = await ask('/v1/embeddings', { input: TEXTS });
    expect(await ask(path, { input: TEXTS })).toEqual(right);
    expect((await ask(path, { input: TEXTS }, key, strict)).body.data).toEqual(right.body.data);
    expect((await ask(path, { input: TEXTS }, {}, strict)).status).toBe(401);
  });

  test('errors are OpenAI’s, and a foreign deployment is refused where names count', async () => {
    expect((await ask(path, { input: [] })).body.error.param).toBe('input');
    const other = '/openai/deployments/BAAI%2Fother/embeddings';
    const { status, body } = await ask(other, { input: 'a' }, key, strict);
    expect([status, body.error.code]).toEqual([404, 'EMB_MODEL_UNKNOWN']);
    expect(body.error.message).toContain('BAAI/other');
  });
});

describe('models', () => {
  test('are listed at /models too, and found by a name with its slash', async () => {
    const get = async (path: string) => {
      const reply = await fetch(server.url + path);
      return { status: reply.status, body: await reply.json() };
    };
    expect(await get('/models')).toEqual(await get('/v1/models'));
    expect((await get('/v1/models/small')).status).toBe(200);
    for (const path of ['/v1/models/BAAI/other', '/v1/models/BAAI%2Fother']) {
      const { status, body } = await get(path);
      expect([status, body.error.code]).toEqual([404, 'EMB_MODEL_UNKNOWN']);
      expect(body.error.message).toContain('"BAAI/other"');
    }
  });
});

describe('Baseten’s headers', () => {
  const inMs = (ms: number): string => String(Math.ceil(Date.now() + ms));

  test('a request with time left is answered', async () => {
    const headers = { 'request-timeout-ms': '60000', 'request-deadline-ms': inMs(60_000) };
    expect((await ask('/encode', { query: 'a' }, headers)).status).toBe(200);
  });

  test('a deadline that has passed ends the request before any work', async () => {
    const { status, body } = await ask(
      '/encode',
      { query: 'a' },
      { 'request-deadline-ms': inMs(-1_000) },
    );
    expect([status, body.error.code]).toEqual([504, 'EMB_DEADLINE_EXCEEDED']);
  });

  test.each(['request-timeout-ms', 'request-deadline-ms'])('a bad %s is named', async (name) => {
    for (const value of ['soon', '0', '-1', '1.5']) {
      const { status, body } = await ask('/encode', { query: 'a' }, { [name]: value });
      expect([status, body.error.field]).toEqual([422, name]);
    }
  });
});

describe('Weaviate', () => {
  const config = { pooling_strategy: 'masked_mean', task_type: 'query' };

  test('one text, as its module sends it', async () => {
    const asked = { text: TEXTS[0], dims: 0, vector: null, error: '', config };
    for (const path of ['/vectors', '/vectors/']) {
      const { status, body } = await ask(path, asked);
      const [vector] = await rows();
      const dim = vector?.length;
      expect([status, body]).toEqual([200, { text: TEXTS[0], vector, dim, dims: dim }]);
    }
  });

  test('several texts', async () => {
    const { body } = await ask('/vectors', { texts: TEXTS, config });
    expect(body.vectors).toEqual(await rows());
    expect(body.dims).toBe(body.vectors[0].length);
  });

  test.each([
    ['text', {}],
    ['text', { text: 'a', texts: ['a'] }],
    ['config.task_type', { text: 'a', config: { task_type: 'nonsense' } }],
    ['config.dimensions', { text: 'a', config: { dimensions: 3 } }],
  ])('%s that is wrong: 422, and words in error', async (field, fields) => {
    const { status, body } = await ask('/vectors', fields);
    expect([status, body.field]).toEqual([422, field]);
    expect(body.error).toContain(field);
  });

  test('lives, is ready, and tells of its model', async () => {
    for (const path of ['/.well-known/live', '/.well-known/ready']) {
      expect((await fetch(server.url + path)).status).toBe(204);
    }
    expect(await (await fetch(`${server.url}/meta`)).json()).toMatchObject({
      model: { name: 'small' },
    });
  });
});
