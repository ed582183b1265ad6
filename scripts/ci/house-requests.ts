/**
 * Sends `HOUSE_REQUESTS` requests to a whole server over a fake Triton, for `house.ts`, which runs
 * it under Bun's coverage: only its test runner has that. `HOUSE_ROOT` is the tree that is looked
 * at.
 */
import { expect, test } from 'bun:test';
import { join } from 'node:path';

const ROOT = process.env.HOUSE_ROOT ?? join(import.meta.dir, '../..');
const COUNT = Number(process.env.HOUSE_REQUESTS ?? 1);
/** Different texts: the same again would pass through other files. */
const textOf = (index: number): string => `договор аренды № ${index}`;

test('requests are answered', async () => {
  const { startFakeTriton } = await import(join(ROOT, 'src/testing/fake-triton.ts'));
  const { startServer } = await import(join(ROOT, 'src/testing/start-server.ts'));
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 8 };
  const fake = await startFakeTriton({ model: 'bge_model', ...shape });
  const server = await startServer({
    ...{
      BACKEND: 'triton',
      MODEL: 'bge-m3',
      TRITON_URL: fake.url,
      SELF_CHECK: 'off',
      LOG_LEVEL: 'info',
    },
    // The main thread does what a worker would: coverage does not see inside workers.
    ...{ TOKENIZER_INLINE_UNITS: '65536', TOKENIZER_WORKERS: '1' },
  });
  try {
    while (!server.parts.backend.state().isReady) await Bun.sleep(10);
    for (let index = 0; index < COUNT; index++) {
      const response = await fetch(`${server.url}/encode`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: [textOf(index)] }),
      });
      const body = await response.text();
      expect([response.status, body.slice(0, 200)]).toEqual([200, expect.any(String)]);
    }
  } finally {
    await server.close();
    await fake.stop();
  }
}, 60_000);
