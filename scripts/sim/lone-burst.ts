/**
 * A corpus by the AI SDK's defaults, which send all calls at once and try each three times, against
 * the embedded default; and by a polite client, which has four calls of 256 texts in flight.
 */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { embedMany } from 'ai';
import OpenAI from 'openai';
import { startProcess } from '../../src/testing/e2e/start-process.ts';
import { scrape } from '../../src/testing/scraped-metrics.ts';
import { until } from '../../src/testing/until.ts';
import { count, oneOf, onOff, readFlags } from '../flags.ts';

const values = readFlags(import.meta.path, {
  client: oneOf(['ai-sdk', 'polite'], 'who sends the corpus'),
  texts: count(40_000, [1, 10_000_000], 'texts of the corpus'),
  long: onOff('texts of some 30 tokens in place of 11'),
});

const POLITE_TEXTS = 256;
const POLITE_CALLS = 4;

const server = await startProcess({ LOG_LEVEL: 'error' });
const baseURL = `${server.url}/v1`;
const model = 'embedded';

const more = values.long
  ? ' Арендатор обязуется вносить плату не позднее десятого числа месяца.'
  : '';
/** Of 11 tokens each, or some 30. */
const texts = Array.from(
  { length: values.texts },
  (_, index) => `Договор аренды номер ${index}.${more}`,
);

async function byAiSdk(): Promise<number> {
  const provider = createOpenAICompatible({ name: 'lone', baseURL });
  const reply = await embedMany({ model: provider.embeddingModel(model), values: texts });
  return reply.embeddings.length;
}

async function politely(): Promise<number> {
  const client = new OpenAI({ baseURL, apiKey: 'unused' });
  let [next, count] = [0, 0];
  const one = async (): Promise<void> => {
    while (next < texts.length) {
      const input = texts.slice(next, next + POLITE_TEXTS);
      next += input.length;
      const { data } = await client.embeddings.create({ model, input });
      count += data.length;
    }
  };
  await Promise.all(Array.from({ length: POLITE_CALLS }, one));
  return count;
}

try {
  await until('the server is ready', async () => (await fetch(`${server.url}/ready`)).ok);
  const startMs = performance.now();
  const told = await (values.client === 'polite' ? politely() : byAiSdk()).then(
    (count) => `${count} rows`,
    (error: Error) => `failed: ${error.name} ${error.message}`,
  );
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  console.log(`${values.client}, ${texts.length} texts: ${told} in ${seconds} s`);
  for (const [sample, value] of await scrape(server.url)) {
    const isTold = /_(requests|texts|tokens)_total/.test(sample);
    if (isTold && value > 0 && !sample.includes('/ready')) console.log(`${sample} ${value}`);
  }
} finally {
  server.signal('SIGKILL');
  await server.exited;
}
