import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import * as zlib from 'node:zlib';
import { sendRaw } from '../raw-request.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * Bodies that are refused, and bodies that come packed, over a real connection.
 */

setDefaultTimeout(60_000);

const BODY_BYTES_MAX = 1_000_000;
let server: RunningServer;

beforeAll(async () => {
  server = await startServer({
    BACKEND: 'embedded',
    TOKENIZER_WORKERS: '1',
    BODY_BYTES_MAX: String(BODY_BYTES_MAX),
  });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(() => server.close());

test.each([
  [413, 'POST /encode', 'application/json'],
  [404, 'POST /no-such-route', 'application/json'],
  [415, 'POST /encode', 'text/plain'],
  [405, 'POST /health', 'application/json'],
])(
  '%d for %s reaches a caller that sends 20 MB and wants the connection closed',
  async (...row) => {
    const [status, request, contentType] = row;
    const head = [`${request} HTTP/1.1`, 'Host: a', `Content-Type: ${contentType}`];
    const reply = await sendRaw(server.url, head, 'a'.repeat(20_000_000));
    expect(reply.status).toBe(status);
    expect(reply.body).toContain('"code":"EMB_');
  },
);

test.each([
  [200, ['application/json', 'application/json; charset=UTF-8']],
  [200, ['']],
  [200, ['application/json; profile="a, b"']],
  [415, ['application/json', 'application/msgpack']],
  [415, ['application/json', 'text/plain']],
])('%d for the Content-Type %p, one header each', async (status, types) => {
  const head = [
    'POST /encode HTTP/1.1',
    'Host: a',
    ...types.map((type) => `Content-Type: ${type}`),
  ];
  expect((await sendRaw(server.url, head, '{"query":"тест"}')).status).toBe(status);
});

const PACKERS: Record<string, (body: Uint8Array) => Uint8Array> = {
  gzip: zlib.gzipSync,
  'X-GZip': zlib.gzipSync,
  deflate: zlib.deflateSync,
  'deflate ': zlib.deflateRawSync,
  br: zlib.brotliCompressSync,
  zstd: zlib.zstdCompressSync,
  identity: (body) => body,
};

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

function send(encoding: string, body: Uint8Array): Promise<Response> {
  const headers = { 'content-type': 'application/json', 'content-encoding': encoding };
  return fetch(`${server.url}/encode`, { method: 'POST', headers, body: Buffer.from(body) });
}

test.each(Object.entries(PACKERS))(
  'a body in "%s" answers as the plain one',
  async (name, pack) => {
    const plain = bytesOf('{"query":"исковая давность"}');
    const [packed, wanted] = await Promise.all([send(name, pack(plain)), send('identity', plain)]);
    expect(packed.status).toBe(200);
    expect(await packed.json()).toEqual(await wanted.json());
  },
);

test.each(['gzip', 'deflate', 'br', 'zstd'])(
  '%s that unpacks to too much is 413, one that is none is 400',
  async (name) => {
    const bomb = PACKERS[name](new Uint8Array(BODY_BYTES_MAX + 1).fill(97));
    expect(bomb.length).toBeLessThan(10_000);
    for (const [body, status, code] of [
      [bomb, 413, 'EMB_BODY_TOO_LARGE'],
      [bytesOf('{"query":"x"}'), 400, 'EMB_BODY_MALFORMED'],
      [PACKERS[name](bytesOf('{"query":"исковая"}')).subarray(0, 12), 400, 'EMB_BODY_MALFORMED'],
    ] as const) {
      const reply = await send(name, body);
      expect([reply.status, reply.headers.get('x-error-code')]).toEqual([status, code]);
    }
  },
);

test.each(['compress', 'gzip, br', 'constructor'])(
  'Content-Encoding "%s" is 415, with those that are taken',
  async (name) => {
    const reply = await send(name, bytesOf('{"query":"x"}'));
    expect(reply.status).toBe(415);
    expect(reply.headers.get('accept-encoding')).toBe('gzip, deflate, br, zstd');
    expect(await reply.json()).toMatchObject({
      error: { code: 'EMB_CONTENT_ENCODING_UNSUPPORTED', field: 'content-encoding' },
    });
  },
);
