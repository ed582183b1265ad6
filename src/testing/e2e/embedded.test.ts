import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { legalTexts } from '../legal-texts.ts';
import { until } from '../until.ts';
import { type ServerProcess, startProcess } from './start-process.ts';

/** The process as `./run.sh` starts it on a machine with no GPU, and the README's own lines. */

setDefaultTimeout(60_000);

const DIMENSION = 384;
const README = readFileSync(join(import.meta.dir, '../../../README.md'), 'utf8');
let server: ServerProcess;

beforeAll(async () => {
  server = await startProcess({});
  await until('it is ready', async () => (await fetch(`${server.url}/ready`)).ok);
});

afterAll(async () => {
  server?.signal('SIGKILL');
  await server?.exited;
});

async function encode(query: string | readonly string[]): Promise<number[][]> {
  const reply = await fetch(`${server.url}/encode`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  expect(reply.status).toBe(200);
  const { embedding, embeddings } = (await reply.json()) as {
    embedding?: number[];
    embeddings: number[][];
  };
  return embedding === undefined ? embeddings : [embedding];
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, index) => sum + value * (b[index] ?? Number.NaN), 0);

describe('the first lines of the README', () => {
  const lines = README.split('\n').filter((line) => line.startsWith('curl localhost:8080'));

  /** Runs a line in a shell, against this server. */
  async function run(line: string): Promise<unknown> {
    const here = line.replace('localhost:8080', server.url);
    const child = Bun.spawn(['bash', '-c', here], { stdout: 'pipe', stderr: 'pipe' });
    const out = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    return JSON.parse(out);
  }

  test.skipIf(Bun.which('curl') === null)('curl answers, for each (needs curl)', async () => {
    const replies = [];
    for (const line of lines.slice(0, 3)) replies.push(await run(line));
    expect(replies).toMatchObject([
      { status: 'ok' },
      { dim: DIMENSION, model: 'multilingual-e5-small', truncated: false },
      { vector_dim: DIMENSION },
    ]);
  });

  test('they are the three of the service that this one replaces', () => {
    const paths = lines.slice(0, 3).map((line) => /8080(\/\w+)/.exec(line)?.[1]);
    expect(paths).toEqual(['/health', '/encode', '/get_vector_dim']);
  });
});

describe('vectors', () => {
  test('Russian text has norm 1', async () => {
    for (const row of await encode(['исковая давность', 'Ёлка — «это» №5', 'а'])) {
      expect(row).toHaveLength(DIMENSION);
      expect(Math.abs(Math.sqrt(dot(row, row)) - 1)).toBeLessThan(1e-5);
    }
  });

  test('what means the same is closer than what does not', async () => {
    const [query, same, other] = await encode([
      'расторжение договора аренды',
      'прекращение арендных отношений',
      'рецепт борща',
    ]);
    expect(dot(query, same)).toBeGreaterThan(dot(query, other) + 0.05);
  });

  test('a text alone and among others has the same row', async () => {
    const texts = legalTexts([3, 40, 1, 12, 25], 11);
    const together = await encode(texts);
    for (const [index, text] of texts.entries()) {
      expect(dot((await encode(text))[0], together[index])).toBeGreaterThan(0.9999);
    }
  });
});

test('/health answers while the model works on a long batch', async () => {
  let isDone = false;
  const long = encode(legalTexts(Array(6).fill(320), 3)).then(() => {
    isDone = true;
  });
  await until('the batch runs', async () => {
    const info = (await (await fetch(`${server.url}/info`)).json()) as {
      queue: { batches_in_flight: number };
    };
    return info.queue.batches_in_flight > 0;
  });
  for (let call = 0; call < 20; call++) {
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  }
  expect(isDone).toBe(false);
  await long;
});

test('/info shows the model, the settings and no secret', async () => {
  const info = await (await fetch(`${server.url}/info`)).json();
  expect(info).toMatchObject({
    model: {
      ...{ id: 'multilingual-e5-small', dim: DIMENSION, max_tokens: 512 },
      engine: expect.stringMatching(/^model(-int8)?\.onnx sha256 [0-9a-f]{16}$/),
    },
    backend: { name: 'embedded', ready: true },
    settings: { port: 0, host: '127.0.0.1' },
  });
});

test('the banner names the model, its dimension and the backend', () => {
  const banner = server.stderr().split('\n')[0];
  for (const word of ['multilingual-e5-small', '384', 'embedded', server.url]) {
    expect(banner).toContain(word);
  }
});

test('Swagger loads nothing from elsewhere, and knows the routes', async () => {
  const page = await (await fetch(`${server.url}/swagger`)).text();
  expect(page).not.toMatch(/(?:src|href)="?(?:https?:)?\/\//);
  const { paths } = (await (await fetch(`${server.url}/swagger/json`)).json()) as { paths: object };
  expect(Object.keys(paths)).toContain('/encode');
});
