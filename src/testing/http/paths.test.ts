import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { connect } from 'node:net';
import { sendRaw } from '../raw-request.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * Paths with slashes too many, as a base URL with one at its end makes them; keys hold there. And
 * what the runtime's parser does not take: see the README.
 */

setDefaultTimeout(60_000);

let server: RunningServer;

beforeAll(async () => {
  server = await startServer({ BACKEND: 'embedded', TOKENIZER_WORKERS: '1', API_KEYS: 'secret' });
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(() => server.close());

const KEY = 'Authorization: Bearer secret';

test.each([
  ['POST //encode', '{"query":"тест"}', KEY, 200],
  ['POST /v1//embeddings', '{"input":"тест"}', KEY, 200],
  ['POST ///v1/embeddings?a=//b', '{"input":"тест"}', KEY, 200],
  ['POST //encode', '{"query":"тест"}', 'X-A: b', 401],
  ['GET //metrics', '', 'X-A: b', 401],
  ['GET //metrics', '', KEY, 200],
  ['GET //health', '', 'X-A: b', 200],
  ['POST //nowhere', '{}', KEY, 404],
  ['POST //health', '{}', KEY, 405],
])('%s %s with %s is %d', async (request, body, header, status) => {
  const head = [`${request} HTTP/1.1`, 'Host: a', 'Content-Type: application/json', header];
  expect((await sendRaw(server.url, head, body)).status).toBe(status);
});

/** Bytes on one connection, and the statuses of what is answered until the server ends it. */
function statusesOf(bytes: string, send: 'write' | 'end' = 'write'): Promise<readonly string[]> {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  let received = '';
  return new Promise((resolve, reject) => {
    const end = (): void => resolve(received.match(/(?<=HTTP\/1.1 )\d+/g) ?? []);
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      received += text;
    });
    socket.on('error', reject);
    socket.on('close', end);
    socket[send](bytes);
  });
}

const KEPT = `POST /encode HTTP/1.1\r\nHost: a\r\n${KEY}\r\n`;
const HEAD = `${KEPT}Connection: close\r\n`;
const BODY = '{"query":"a"}';
const REST = `Content-Length: ${BODY.length}\r\n\r\n${BODY}`;
const ONE = HEAD + REST;
const chunked = (trailer: string): string =>
  `${HEAD}Transfer-Encoding: chunked\r\n\r\n${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n${trailer}\r\n`;

test.each([
  ['one request', ONE, ['200']],
  ['a chunked one', chunked(''), ['200']],
  ['two requests in one write', KEPT + REST + ONE, []],
  ['a line end after a body', `${KEPT}${REST}\r\n`, ['400']],
  ['a trailer field after a chunked body', chunked('X-Sum: 1\r\n'), ['400']],
])('the README says what the parser does with %s', async (_name, bytes, statuses) => {
  // Where the runtime takes more one day, its section there is to go.
  expect(await statusesOf(bytes)).toEqual(statuses);
});

test('and with who closes its side before the reply', async () => {
  // So many that the end comes before the reply.
  const query = Array.from({ length: 400 }, (_, index) => `статья ${index}`);
  const body = Buffer.from(JSON.stringify({ query }));
  const request = `${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`;
  expect(await statusesOf(request)).toEqual(['200']);
  expect(await statusesOf(request.replace('статья 0"', 'статья x"'), 'end')).toEqual([]);
});
