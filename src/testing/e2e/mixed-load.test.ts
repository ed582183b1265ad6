import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadReferenceIds } from '../reference-ids.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { until } from '../until.ts';
import { applyMixedLoad, knownTexts } from './mixed-load.ts';
import type { KnownText } from './route-askings.ts';
import { type ServerProcess, startProcess } from './start-process.ts';

/**
 * Every route and format at once, on a real server and a real Triton: whoever hangs up, and however
 * many ask for the same text, each gets the rows of its own texts.
 *
 * Planted and caught: memory of a request given back twice, an heir without its own index, a region
 * that is free before the callers are told.
 */

setDefaultTimeout(60_000);

const KEYS = ['first-caller', 'second-caller', 'third-caller'];

/** A few seconds' worth. */
const REQUEST_COUNT = 1000;

let dir: string;
let triton: RunningTriton;
let texts: readonly KnownText[];
let server: ServerProcess | undefined;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'mixed-load-'));
  const model = { kind: 'trivial', datatype: 'INT64', dimension: 1024, maxBatch: 32 } as const;
  const outputs = { output: 'dense_vecs', multiVectorOutput: 'colbert_vecs' };
  writeRepository({ dir, models: [{ name: 'bge_model', ...model, ...outputs }] });
  triton = await startTriton({ repository: dir });
  texts = await knownTexts({
    count: 200,
    wordCountMax: 10,
    idsOf: loadReferenceIds('bge-m3'),
    seed: 7,
  });
});

afterEach(async () => {
  server?.signal('SIGTERM');
  await server?.exited;
  server = undefined;
});

afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test.each([
  { TRITON_SHARED_MEMORY: 'on', CACHE_BYTES: '0' },
  { TRITON_SHARED_MEMORY: 'off', CACHE_BYTES: '2000000' },
])('with %p each caller gets its own rows', async (settings) => {
  server = await startProcess({
    ...{ BACKEND: 'triton', MODEL: 'bge-m3', TRITON_URL: triton.url, TOKENIZER_WORKERS: '1' },
    ...{ API_KEYS: KEYS.join(','), EMPTY_TEXTS: 'null', LOG_LEVEL: 'error', ...settings },
  });
  const { url } = server;
  await until('the server is ready', async () => (await fetch(`${url}/ready`)).ok);
  const load = { url, texts, keys: KEYS, connectionCount: 24, seed: 11 };
  const found = await applyMixedLoad({ ...load, requestCount: REQUEST_COUNT });
  expect(found.wrong).toEqual([]);
  expect(found.answered).toBeGreaterThan(REQUEST_COUNT / 2);
  expect(found.others.gone).toBeGreaterThan(0);
});
