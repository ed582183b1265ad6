/**
 * A real Triton with its own response cache, whose key is the model and the inputs, not the outputs
 * that were asked for.
 *
 * Faults that were planted by hand, and that this suite caught: several heads are not refused; an
 * output that nobody asked for must be binary; an entry without the output has an error that does
 * not name the cache.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TritonBackend } from '../../backend/triton/triton-backend.ts';
import { ServerError } from '../../base/errors.ts';
import { HEADS, type Head, headSet } from '../../vectors/output.ts';
import { SMALL_MODEL_OUTPUTS, writeSmallModel } from '../golden/write-small-model.ts';
import { type Golden, loadGolden } from '../golden/xlmr-small.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { until } from '../until.ts';
import { inferByHand } from './infer-by-hand.ts';
import { type RunningTriton, startTriton } from './start-triton.ts';
import { tritonVenv } from './triton-venv.ts';
import { writeRepository } from './write-repository.ts';

setDefaultTimeout(60_000);

const DIMENSION = 32;

let dir: string;
let golden: Golden;
let triton: RunningTriton;
let backend: TritonBackend | undefined;

beforeAll(async () => {
  golden = await loadGolden();
  dir = mkdtempSync(join(tmpdir(), 'response-cache-'));
  const path = join(dir, 'small.onnx');
  await writeSmallModel(path);
  const { dense_vecs } = SMALL_MODEL_OUTPUTS;
  const shared = { kind: 'onnx', datatype: 'INT64', dimension: DIMENSION, maxBatch: 8 } as const;
  const cached = { ...shared, cachesResponses: true };
  writeRepository({
    dir: join(dir, 'repository'),
    models: [
      { ...cached, name: 'all', onnx: { path, outputs: SMALL_MODEL_OUTPUTS } },
      { ...cached, name: 'dense', onnx: { path, outputs: { dense_vecs } } },
    ],
  });
  triton = await startTriton({
    repository: join(dir, 'repository'),
    extraArguments: [
      '--cache-config=local,size=1048576',
      `--cache-directory=${join(tritonVenv().backends, '../caches')}`,
    ],
  });
});
afterEach(() => backend?.close());
afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function open(model: string, heads: readonly Head[]): TritonBackend {
  backend = tritonBackendOn({ urls: [triton.url], model, dimension: DIMENSION, heads });
  return backend;
}

async function expectDense(opened: TritonBackend): Promise<void> {
  await until('the model is ready', () => opened.state().isReady);
  const [text] = golden.texts;
  const texts = [Int32Array.from(text.ids)];
  const heads = headSet(['dense']);
  const { dense } = await opened.infer({ texts, paddedLength: text.ids.length, heads });
  const row = dense?.values(0, DIMENSION) ?? [];
  expect(row.length).toBe(DIMENSION);
  text.dense.forEach((value, at) => {
    expect(row[at]).toBeCloseTo(value, 5);
  });
}

async function hitCount(model: string): Promise<number> {
  const reply = await fetch(`${triton.url}/v2/models/${model}/stats`);
  const { model_stats } = (await reply.json()) as {
    model_stats: { inference_stats: { cache_hit: { count: number } } }[];
  };
  return Number(model_stats[0].inference_stats.cache_hit.count);
}

test('several heads are refused by name', async () => {
  const opened = open('all', HEADS);
  await until('it was asked', () => opened.state().reason.includes('response_cache'));
  expect(opened.state().isReady).toBe(false);
});

test('dense rows alone come through the cache', async () => {
  const opened = open('dense', HEADS);
  await expectDense(opened);
  await expectDense(opened);
  await until('Triton has counted a hit', async () => (await hitCount('dense')) > 0);
});

test('outputs that another caller put into the cache are skipped', async () => {
  const texts = [[...golden.texts[0].ids]];
  const { status } = await inferByHand({ url: triton.url, model: 'all', datatype: 'INT64', texts });
  expect(status).toBe(200);
  await expectDense(open('all', ['dense']));
  await until('Triton has counted a hit', async () => (await hitCount('all')) > 0);
});

test('a text that another caller put there without the output fails by name, others do not', async () => {
  const texts = [[...golden.texts[1].ids]];
  const other = { url: triton.url, model: 'all', datatype: 'INT64', texts } as const;
  const { status } = await inferByHand({ ...other, outputs: ['sparse_vecs'] });
  expect(status).toBe(200);
  const opened = open('all', ['dense']);
  await expectDense(opened);
  const ids = Int32Array.from(texts[0]);
  const batch = { texts: [ids], paddedLength: ids.length, heads: headSet(['dense']) };
  for (let time = 0; time < 2; time++) {
    const failure = await opened.infer(batch).catch((error: ServerError) => error);
    expect(failure).toBeInstanceOf(ServerError);
    expect(failure).toMatchObject({ code: 'EMB_OUTPUT_INVALID' });
    expect((failure as ServerError).message).toContain('Switch response_cache off');
    await expectDense(opened);
  }
});
