import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { startHeadsServer } from '../clients/heads-server.ts';
import type { RunningServer } from '../start-server.ts';

/**
 * Ollama's API: shapes and errors as its clients read them, rows against `/encode`. Its real
 * clients are in `src/testing/clients`.
 */

setDefaultTimeout(60_000);

const TEXTS = ['исковая давность', 'срок исковой давности'];

let server: RunningServer;

beforeAll(async () => {
  server = await startHeadsServer();
});

afterAll(() => server?.close());

async function ask(path: string, body: unknown) {
  const reply = await fetch(server.url + path, { method: 'POST', body: JSON.stringify(body) });
  return { status: reply.status, body: await reply.json() };
}

const read = async (path: string) => (await fetch(server.url + path)).json();

const rows = async () => (await ask('/encode', { query: TEXTS })).body.embeddings;

describe('POST /api/embed', () => {
  test('answers the rows of /encode, the name as it was asked, and whole nanoseconds', async () => {
    const { body } = await ask('/api/embed', { model: 'bge-m3:latest', input: TEXTS });
    expect(body.embeddings).toEqual(await rows());
    expect(body.model).toBe('bge-m3:latest');
    expect(Number.isInteger(body.total_duration)).toBe(true);
    expect(body.total_duration).toBeGreaterThan(1000);
    const { tokens } = (await ask('/encode', { query: TEXTS })).body;
    expect(body.prompt_eval_count).toBe(tokens[0] + tokens[1]);
  });

  test('one string is one row', async () => {
    const { body } = await ask('/api/embed', { model: 'm', input: TEXTS[0] });
    expect(body.embeddings).toEqual([(await rows())[0]]);
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['an empty string', ''],
    ['an empty list', []],
  ])('%s as input answers no embeddings', async (_name, input) => {
    const { status, body } = await ask('/api/embed', { model: 'm', input });
    expect([status, body.embeddings]).toEqual([200, []]);
  });

  test('takes what its clients send along', async () => {
    const options = { mirostat: null, num_ctx: null, temperature: null };
    const whole = { model: 'm', input: TEXTS, options, keep_alive: '5m', truncate: true };
    const { body } = await ask('/api/embed', { ...whole, dimensions: 0 });
    expect(body.embeddings).toEqual(await rows());
    expect((await ask('/api/embed', { ...whole, keep_alive: -1 })).status).toBe(200);
    expect((await ask('/api/embed', { ...whole, dimensions: 1_000_000 })).status).toBe(200);
  });

  test.each([
    [
      'truncate: false and a long text',
      { input: 'слово '.repeat(9000), truncate: false },
      'tokens',
    ],
    ['a dimension that the model was not trained for', { input: 'a', dimensions: 3 }, 'dimensions'],
    ['token ids', { input: [[1, 2, 3]] }, 'input[0]'],
    ['another type', { input: 7 }, 'input'],
    ['a keep_alive that is no time', { input: 'a', keep_alive: {} }, 'keep_alive'],
    ['options that are no map', { input: 'a', options: 'x' }, 'options'],
  ])('%s: 400, and words that name it', async (_name, fields, words) => {
    const { status, body } = await ask('/api/embed', { model: 'm', ...fields });
    expect(status).toBe(400);
    expect(typeof body.error).toBe('string');
    expect(body.error).toContain(words);
  });
});

test('POST /api/embeddings answers one row, and an empty prompt none', async () => {
  const { body } = await ask('/api/embeddings', { model: 'm', prompt: TEXTS[0] });
  expect(body).toEqual({ embedding: (await rows())[0] });
  expect((await ask('/api/embeddings', { model: 'm', prompt: '' })).body).toEqual({
    embedding: [],
  });
});

test.each(['application/x-www-form-urlencoded', 'text/plain;charset=UTF-8'])(
  'the calls of its documents, which curl sends as %s',
  async (type) => {
    const call = async (path: string, body: object) => {
      const headers = { 'content-type': type };
      return fetch(server.url + path, { method: 'POST', headers, body: JSON.stringify(body) });
    };
    const reply = await call('/api/embed', { model: 'm', input: TEXTS });
    expect((await reply.json()).embeddings).toEqual(await rows());
    expect((await call('/api/embeddings', { model: 'm', prompt: 'a' })).status).toBe(200);
    for (const path of ['/api/show', '/api/pull']) {
      expect((await call(path, { model: 'm' })).status).toBe(200);
    }
  },
);

test('a model is pulled already, in one line and in JSON', async () => {
  for (const fields of [{ model: 'nomic-embed-text' }, { name: 'm', stream: false }]) {
    const body = JSON.stringify(fields);
    const reply = await fetch(`${server.url}/api/pull`, { method: 'POST', body });
    expect(await reply.text()).toBe('{"status":"success"}\n');
  }
});

test('what clients ask first: the model by name and tag, its sizes, a version', async () => {
  const { models } = await read('/api/tags');
  const [{ name, model, size, details }] = models;
  expect(model).toBe(name);
  expect(name).toMatch(/^[\w.-]+:latest$/);
  expect(Number.isInteger(size)).toBe(true);
  const { body } = await ask('/api/show', { model: name });
  const { model_info: info, capabilities } = body;
  const architecture = info['general.architecture'];
  const { body: encoded } = await ask('/encode', { query: 'a' });
  expect(info[`${architecture}.embedding_length`]).toBe(encoded.dim);
  expect(info[`${architecture}.context_length`]).toBe(details.context_length);
  expect(capabilities).toEqual(['embedding']);
  const [running] = (await read('/api/ps')).models;
  expect(Date.parse(running.expires_at)).toBeGreaterThan(Date.now());
  expect((await read('/api/version')).version).toMatch(/^\d+\.\d+\.\d+/);
});

test('an unknown path below /api/ and a wrong method are told in its shape', async () => {
  const unknown = await ask('/api/generate', {});
  expect([unknown.status, typeof unknown.body.error]).toEqual([404, 'string']);
  const wrong = await fetch(`${server.url}/api/embed`);
  expect([wrong.status, typeof (await wrong.json()).error]).toEqual([405, 'string']);
});

describe('with STRICT_MODEL', () => {
  let strict: RunningServer;
  beforeAll(async () => {
    strict = await startHeadsServer({ STRICT_MODEL: 'on' });
  });
  afterAll(() => strict?.close());

  test.each([
    ['/api/embed', { input: 'a' }],
    ['/api/embeddings', { prompt: 'a' }],
    ['/api/show', {}],
    ['/api/pull', {}],
  ])('%s refuses another model', async (path, fields) => {
    const status = async (model: string) => {
      const body = JSON.stringify({ model, ...fields });
      return (await fetch(strict.url + path, { method: 'POST', body })).status;
    };
    const [{ name }] = (await (await fetch(`${strict.url}/api/tags`)).json()).models;
    const bare = name.replace(':latest', '');
    expect(await status('llama3')).toBe(404);
    expect(await status(name)).toBe(200);
    expect(await status(bare.toUpperCase())).toBe(200);
    expect(await status(`library/${bare}`)).toBe(200);
  });
});
