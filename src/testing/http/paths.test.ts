import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { sendRaw } from '../raw-request.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/** Paths with slashes too many, as a base URL with one at its end makes them; keys hold there. */

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
