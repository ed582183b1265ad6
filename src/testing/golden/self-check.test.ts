/**
 * SELF_CHECK: an engine that does not answer what its record says gets no batch. Faults that were
 * planted in the code by hand, and that this suite caught: a check that is made at the first start
 * alone; a NaN that passes; an engine that fails and is what the next one is held against.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeSelfCheckRow, RECORD_FORMAT } from '../../model/engine-record.ts';
import { type RunningServer, startServer } from '../start-server.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { until } from '../until.ts';
import { SMALL_MODEL, writeModelsFolder, writeTritonModels } from './small-heads-harness.ts';
import { type Golden, loadGolden } from './xlmr-small.ts';

setDefaultTimeout(60_000);

let dir: string;
let golden: Golden;
let data: Uint8Array;
let triton: RunningTriton;
let server: RunningServer | undefined;

const modelsDir = (): string => join(dir, 'models');
const dataPath = (): string => join(modelsDir(), SMALL_MODEL, 'onnx/model.onnx_data');

beforeAll(async () => {
  golden = await loadGolden();
  dir = mkdtempSync(join(tmpdir(), 'self-check-'));
  const graph = await writeModelsFolder(modelsDir());
  data = readFileSync(dataPath());
  writeTritonModels(join(dir, 'repository'), graph);
  triton = await startTriton({ repository: join(dir, 'repository') });
});

afterEach(async () => {
  await server?.close();
  server = undefined;
});

afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** The record of an export, as far as the check reads it. */
function writeRecord(dense: Float32Array, model = SMALL_MODEL): void {
  const folder = join(modelsDir(), 'bge_model/1');
  mkdirSync(folder, { recursive: true });
  const selfCheck = { ids: golden.texts[0].ids, dense: encodeSelfCheckRow(dense) };
  const record = JSON.stringify({ format: RECORD_FORMAT, model, selfCheck });
  writeFileSync(join(folder, 'model.plan.json'), record);
}

async function start(environment: Record<string, string> = {}): Promise<RunningServer> {
  server = await startServer({
    BACKEND: 'triton',
    MODEL: SMALL_MODEL,
    MODELS_DIR: modelsDir(),
    TRITON_URL: triton.url,
    TRITON_MODEL: SMALL_MODEL,
    TRITON_PROBE_MS: '20',
    TOKENIZER_WORKERS: '1',
    ...environment,
  });
  return server;
}

const isReady = async (): Promise<boolean> => (await fetch(`${server?.url}/ready`)).ok;
const reason = (): string => server?.parts.backend.state().reason ?? '';

/** A row a little off: its cosine to the right one is about 0.9995. */
function nearly(row: Float32Array): Float32Array {
  return row.map((value, index) => value + (index % 2 === 0 ? 0.0056 : -0.0056));
}

test('an engine that answers as its record says is up', async () => {
  writeRecord(golden.texts[0].dense);
  await start();
  await until('the server is ready', isReady);
});

test('one that answers otherwise is refused, with the figures', async () => {
  writeRecord(nearly(golden.texts[0].dense));
  await start();
  await until('the check was made', () => reason().includes('self-check'));
  expect(reason()).toMatch(/a cosine of 0\.999\d{3} to .+, at least 0\.9998 is wanted/);
  const reply = await fetch(`${server?.url}/ready`);
  expect(reply.status).toBe(503);
  const told = await reply.json();
  expect(told).toMatchObject({ reason: 'The backend is down or still loading.' });
  const info = (await (await fetch(`${server?.url}/info`)).json()) as { backend: object };
  expect(info.backend).toMatchObject({ ready: false, reason: reason() });
  const encode = await fetch(`${server?.url}/encode`, { method: 'POST', body: '{"query":"a"}' });
  expect(encode.status).toBe(503);
});

test('a row that is not finite is refused', async () => {
  writeRecord(golden.texts[0].dense.map((value, index) => (index === 3 ? Number.NaN : value)));
  await start();
  await until('the check was made', () => reason().includes('cosine of NaN'));
});

test('SELF_CHECK=off takes it all the same', async () => {
  writeRecord(nearly(golden.texts[0].dense));
  await start({ SELF_CHECK: 'off' });
  await until('the server is ready', isReady);
});

test('a record of another model or another size says nothing, and that is logged', async () => {
  const records = [
    () => writeRecord(nearly(golden.texts[0].dense), 'another'),
    () => writeRecord(golden.texts[0].dense.subarray(0, 8)),
  ];
  for (const write of records) {
    write();
    const { logLines } = await start();
    await until('the server is ready', isReady);
    expect(logLines.join()).toContain('self-check-unusable');
    await server?.close();
    server = undefined;
  }
});

test('an engine that is replaced while the server runs is checked, and what is right comes back', async () => {
  writeRecord(golden.texts[0].dense);
  await start();
  await until('the server is ready', isReady);
  writeFileSync(dataPath(), perturbed(data));
  await triton.restart();
  await until('the check was made', () => reason().includes('self-check'));
  expect(reason()).toMatch(/a cosine of 0\.99\d{4} to/);
  writeFileSync(dataPath(), data);
  await triton.restart();
  await until('the server is ready', isReady);
});

test('an engine that fails at the start is not what the right one is held against', async () => {
  writeRecord(golden.texts[0].dense);
  // So far off that the two would pass for two models.
  writeFileSync(dataPath(), perturbed(data, 1));
  await triton.restart();
  await start();
  await until('the check was made', () => reason().includes('self-check'));
  writeFileSync(dataPath(), data);
  await triton.restart();
  await until('the server is ready', isReady);
});

/** The weights, each a little larger or smaller; what is no weight stays. */
function perturbed(bytes: Uint8Array, by = 0.03): Uint8Array {
  const floats = new Float32Array(Uint8Array.from(bytes).buffer);
  floats.forEach((value, index) => {
    const isWeight = Math.abs(value) > 1e-3 && Math.abs(value) < 10;
    if (isWeight) floats[index] = value * (1 + by * Math.sin(index * index));
  });
  return new Uint8Array(floats.buffer);
}
