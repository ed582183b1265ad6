import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startHeadsServer } from '../clients/heads-server.ts';
import { sendRaw } from '../raw-request.ts';
import { scrape } from '../scraped-metrics.ts';
import type { RunningServer } from '../start-server.ts';

/** What stands before every route: keys and CORS. */

setDefaultTimeout(60_000);

const KEYS = ['first-key', 'second-key', 'key-of-the-file'] as const;
const ORIGIN = 'https://page.example';
const TLS = join(import.meta.dir, 'tls');

let dir: string;
let open: RunningServer;
let keyed: RunningServer;
/** With a key too, over TLS; all that GET reads below /v1 is open. */
let secure: RunningServer;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'access-'));
  writeFileSync(join(dir, 'keys'), `# of the search team\n\n  ${KEYS[2]}  \n`);
  const certificate = join(TLS, 'test-certificate.pem');
  const ca = readFileSync(certificate, 'utf8');
  [open, keyed, secure] = await Promise.all([
    startHeadsServer({ KEYLESS_PATHS: '/metrics' }),
    startHeadsServer({
      // One body for all APIs.
      ALLOW_UNKNOWN_FIELDS: 'on',
      API_KEYS: `${KEYS[0]}, ${KEYS[1]}`,
      API_KEYS_FILE: join(dir, 'keys'),
      CORS_ORIGINS: `${ORIGIN},http://localhost:5173`,
    }),
    startHeadsServer(
      {
        ALLOW_UNKNOWN_FIELDS: 'on',
        API_KEYS: KEYS[0],
        KEYLESS_PATHS: '/health,/ready,/playground/*,/v1/*',
        TLS_CERT: certificate,
        TLS_KEY: join(TLS, 'test-key.pem'),
      },
      { fetch: (url) => fetch(url, { tls: { ca } }) },
    ),
  ]);
});

afterAll(async () => {
  await open?.close();
  await keyed?.close();
  await secure?.close();
  rmSync(dir, { recursive: true, force: true });
});

const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(keyed.url + path, { headers });

describe('keys', () => {
  test('each of several opens, as a bearer or as x-api-key', async () => {
    for (const key of KEYS) {
      expect((await get('/info', { authorization: `Bearer ${key}` })).status).toBe(200);
      expect((await get('/info', { authorization: `bearer ${key}` })).status).toBe(200);
      expect((await get('/info', { 'x-api-key': key })).status).toBe(200);
    }
    const both = { authorization: 'Bearer dummy', 'x-api-key': KEYS[0] };
    expect((await get('/info', both)).status).toBe(200);
  });

  test.each([
    ['none', {}],
    ['another', { authorization: 'Bearer other' }],
    ['a part', { authorization: `Bearer ${KEYS[0].slice(0, -1)}` }],
    ['more', { 'x-api-key': `${KEYS[0]}x` }],
    ['an empty one', { 'x-api-key': '' }],
    ['two in one', { 'x-api-key': `${KEYS[0]}, ${KEYS[1]}` }],
    ['another scheme', { authorization: `Basic ${KEYS[0]}` }],
    ['the comment', { 'x-api-key': '#' }],
  ])('%s is refused', async (_what, headers) => {
    const reply = await get('/info', headers);
    expect(reply.status).toBe(401);
    expect(reply.headers.get('www-authenticate')).toBe('Bearer');
    expect(await reply.json()).toMatchObject({ error: { code: 'EMB_KEY_INVALID' } });
  });

  test('every route wants one but those that are listed, and each in its own shape', async () => {
    const openPaths = /^\/(health|ready|\.well-known\/.*|playground\/.*|swagger.*)?$/;
    const shapes = new Set<string>();
    // Preflights are CORS's own.
    for (const { method, path } of keyed.routes.filter((route) => route.method !== 'OPTIONS')) {
      const reply = await fetch(keyed.url + path.replace(':model', 'small'), { method });
      if (method === 'GET' && openPaths.test(path)) {
        expect([method, path, reply.ok]).toEqual([method, path, true]);
        await reply.bytes();
        continue;
      }
      expect([method, path, reply.status]).toEqual([method, path, 401]);
      const body: Record<string, unknown> = await reply.json();
      const inside = typeof body.error === 'object' ? body.error : {};
      shapes.add(
        [Object.keys(body), Object.keys(inside as object)].map((keys) => keys.sort()).join('/'),
      );
    }
    // Ours, and those of OpenAI, text-embeddings-inference, Ollama, Cohere and Weaviate.
    expect(shapes.size).toBe(6);
    expect((await get('/nowhere')).status).toBe(401);
  });

  test('they are shown nowhere', async () => {
    const info = await (await get('/info', { 'x-api-key': KEYS[0] })).text();
    await get('/info', { 'x-api-key': 'wrong-key' });
    for (const place of [info, keyed.logLines.join('')]) {
      for (const key of [...KEYS, 'wrong-key']) expect(place).not.toContain(key);
    }
    expect(JSON.parse(info).settings.apiKeys).toBe('2 hidden');
  });

  test('a server without keys takes any', async () => {
    const headers = { authorization: 'Bearer sk-dummy' };
    expect((await fetch(`${open.url}/info`, { headers })).status).toBe(200);
  });

  test.each([
    ['no file', '/nowhere/keys', 'cannot be read'],
    ['an empty file', '', 'holds no key'],
    ['two words', 'a key', 'line 1'],
  ])('%s ends the start', async (what, content, says) => {
    const path = what === 'no file' ? content : join(dir, 'wrong');
    if (what !== 'no file') writeFileSync(path, `${content}\n`);
    expect(startHeadsServer({ API_KEYS_FILE: path })).rejects.toThrow(says);
  });
});

describe('behind a proxy', () => {
  const QUEUE = { QUEUE_TEXTS_MAX: '90', REQUEST_TEXTS_MAX: '90', QUEUE_HOLD_MS: '0' };
  const CALLER = '203.0.113.5';

  /** The statuses for a caller who has the queue full, and for another. */
  async function statusesOf(settings: Record<string, string>): Promise<number[]> {
    const server = await startHeadsServer({ ...QUEUE, ...settings });
    const permit = server.parts.admission.admit({ textCount: 90, tokenCount: 90, caller: CALLER });
    try {
      const statuses: number[] = [];
      for (const caller of [CALLER, '203.0.113.6']) {
        const headers = { 'x-forwarded-for': `1.1.1.1, ${caller}` };
        const body = '{"query": "тест"}';
        const reply = await fetch(`${server.url}/encode`, { method: 'POST', headers, body });
        statuses.push(reply.status);
        await reply.bytes();
      }
      return statuses;
    } finally {
      permit.release();
      await server.close();
    }
  }

  test('that is trusted, each has a share of its own', async () => {
    expect(await statusesOf({ TRUSTED_PROXIES: '10.0.0.0/8,127.0.0.1' })).toEqual([429, 200]);
  });

  test('that is not trusted, it is the caller', async () => {
    expect(await statusesOf({})).toEqual([200, 200]);
    expect(await statusesOf({ TRUSTED_PROXIES: '10.0.0.0/8' })).toEqual([200, 200]);
  });

  test.each(['proxy', '10.0.0.0/33', '10.0.0.0/8/8', '::1/129', '10.0.0', '10.0.0.0/'])(
    '%s is no network',
    (word) => {
      expect(startHeadsServer({ TRUSTED_PROXIES: `127.0.0.1,${word}` })).rejects.toThrow(
        'must be addresses, networks like 10.0.0.0/8, or unix',
      );
    },
  );
});

describe('fields that /encode does not have', () => {
  const encode = (url: string, headers: Record<string, string> = {}) =>
    fetch(`${url}/encode`, {
      method: 'POST',
      headers,
      body: '{"query": "тест", "batchSize": 1}',
    });

  test('are refused with the name that is meant, unless they are allowed', async () => {
    const refused = await encode(open.url);
    expect(refused.status).toBe(422);
    expect(((await refused.json()) as { error: object }).error).toMatchObject({
      code: 'EMB_FIELD_UNKNOWN',
      message: 'There is no field "batchSize": is "batch_size" meant?',
      field: 'batchSize',
      limit: 'batch_size',
    });
    expect((await encode(keyed.url, { 'x-api-key': KEYS[0] })).status).toBe(200);
  });
});

describe('whatever Host says', () => {
  const BODY = '{"query": "тест", "input": "тест", "inputs": "тест"}';
  const KEY = `x-api-key: ${KEYS[0]}`;
  /** Short ones, whose path a router may look for in the wrong place; none, and none that is one. */
  const HOSTS = [
    ...[['Host: a'], ['Host: ab'], ['Host: a:1'], ['Host: abcd'], ['Host: [::1']],
    ...[['Host: '], ['Host: a/v1'], ['Host: /'], ['Host: a b']],
  ];
  /** The same request under each Host, and by HTTP/1.0 without one. */
  const underEach = async (line: string, headers: readonly string[] = []) => {
    const replies = [];
    for (const { url } of [keyed, secure]) {
      for (const host of HOSTS) {
        replies.push(await sendRaw(url, [`${line} HTTP/1.1`, ...host, ...headers], BODY));
      }
      replies.push(await sendRaw(url, [`${line} HTTP/1.0`, ...headers], BODY));
    }
    return replies;
  };
  const statuses = (replies: readonly { status: number }[]) => [
    ...new Set(replies.map(({ status }) => status)),
  ];

  test.each([
    'POST /playground/encode',
    'POST /playground/',
    'POST /playground/x/v1/embeddings',
    'GET /playground/info',
    'GET /playground/metrics',
    'GET /playground/get_vector_dim',
    'HEAD /playground/info',
  ])('%s without a key reaches nothing', async (line) => {
    expect(statuses(await underEach(line))).toEqual([404]);
  });

  test.each(['POST /v1/embeddings/', 'POST /v1/embeddings', 'POST /encode/', 'GET /info/'])(
    '%s without a key is refused',
    async (line) => {
      // 404 where the path is listed, and the slash at its end is not forgiven.
      for (const status of statuses(await underEach(line))) expect([401, 404]).toContain(status);
    },
  );

  test('open paths are open, and a key opens the others', async () => {
    expect(statuses(await underEach('GET /health'))).toEqual([200]);
    expect(statuses(await underEach('HEAD /health'))).toEqual([200]);
    expect(statuses(await underEach('GET /playground/main.js'))).toEqual([200]);
    for (const line of ['POST /encode', 'GET /info', 'GET /v1/models/small?x=/y']) {
      expect([line, statuses(await underEach(line, [KEY]))]).toEqual([line, [200]]);
    }
  });

  test('an unknown path is told in our shape, and counted', async () => {
    const before = await scrape(open.url);
    for (const { status, body } of await underEach('GET /nowhere/health', [KEY])) {
      expect(status).toBe(404);
      const { error } = JSON.parse(body);
      expect(error).toMatchObject({ code: 'EMB_ROUTE_UNKNOWN', value: '/nowhere/health' });
    }
    const { status, body } = await sendRaw(open.url, ['GET /v1/nowhere HTTP/1.0']);
    expect([status, JSON.parse(body).error.type]).toEqual([404, 'invalid_request_error']);
    const counted = 'bge_encoder_requests_total{route="none",status="404"}';
    expect((await scrape(open.url)).get(counted)).toBe((before.get(counted) ?? 0) + 1);
  });
});

describe('CORS', () => {
  const preflight = (origin: string) =>
    fetch(`${keyed.url}/v1/embeddings`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type,x-stainless-os',
      },
    });

  test('a page of the list may ask without a key, and read the refusal', async () => {
    const asked = await preflight(ORIGIN);
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-origin')).toBe(ORIGIN);
    expect(asked.headers.get('access-control-allow-headers')).toBe('*, authorization');
    expect(asked.headers.get('access-control-allow-methods')).toContain('POST');
    const refused = await get('/info', { origin: ORIGIN });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('access-control-allow-origin')).toBe(ORIGIN);
  });

  test('replies and errors carry it', async () => {
    const headers = { origin: ORIGIN, 'x-api-key': KEYS[0] };
    for (const [path, body] of [
      ['/encode', '{"query":"тест"}'],
      ['/embed', '{}'],
      ['/v1/nowhere', '{}'],
    ] as const) {
      const reply = await fetch(keyed.url + path, { method: 'POST', headers, body });
      expect(reply.headers.get('access-control-allow-origin')).toBe(ORIGIN);
      expect(reply.headers.get('vary')).toBe('Origin');
      expect(reply.headers.get('x-request-id')).toBeString();
    }
  });

  test('no other page is let in, and a server without the setting says nothing', async () => {
    for (const origin of ['https://evil.example', 'https://page.example.evil', 'null']) {
      expect((await preflight(origin)).headers.get('access-control-allow-origin')).toBeNull();
    }
    const reply = await fetch(`${open.url}/health`, { headers: { origin: ORIGIN } });
    expect([...reply.headers.keys()].filter((name) => /access-control|vary/.test(name))).toEqual(
      [],
    );
  });
});
