import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany } from 'ai';
import { type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { until } from '../until.ts';

/**
 * One caller sends all calls of a corpus at once, as the AI SDK does, and another asks now and
 * then. Planted by hand: no hold, where the SDK gave up after its third try; shares of a queue
 * without the eighth for others, where the second caller was refused.
 */

setDefaultTimeout(120_000);

/** The AI SDK sends 2,048 texts a call, so this is five calls. */
const TEXT_COUNT = 10_000;

let fake: FakeTriton;
let server: RunningServer;

beforeAll(async () => {
  const shape = { datatype: 'INT64', dimension: 1024, batchTextsMax: 64 } as const;
  fake = await startFakeTriton({ model: 'bge_model', ...shape });
  server = await startServer({
    TRITON_URL: fake.url,
    TOKENIZER_WORKERS: '1',
    QUEUE_TEXTS_MAX: '2048',
    API_KEYS: 'job,person',
  });
  await until('it is ready', () => server.parts.backend.state().isReady);
});

afterAll(async () => {
  await server?.close();
  await fake?.stop();
});

test('the burst comes back whole, and nobody beside it is refused', async () => {
  const provider = createOpenAICompatible({
    name: 'bge',
    baseURL: `${server.url}/v1`,
    apiKey: 'job',
  });
  const values = Array.from({ length: TEXT_COUNT }, (_, index) => `договор ${index}`);
  let isDone = false;
  const burst = embedMany({ model: provider.embeddingModel('bge-m3'), values }).finally(() => {
    isDone = true;
  });
  await until('texts stand before the queue', () => server.parts.admission.heldTextCount > 0);
  const statuses: number[] = [];
  while (!isDone) {
    const reply = await fetch(`${server.url}/encode`, {
      method: 'POST',
      headers: { authorization: 'Bearer person' },
      body: JSON.stringify({ query: `вопрос ${statuses.length}` }),
    });
    statuses.push(reply.status);
    await reply.bytes();
  }
  const { embeddings } = await burst;
  expect(embeddings).toHaveLength(TEXT_COUNT);
  expect(new Set(statuses)).toEqual(new Set([200]));
  expect(server.logLines.filter((line) => line.includes('EMB_QUEUE_FULL'))).toEqual([]);
});
