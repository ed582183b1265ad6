/** The kind `onnx` of the fake models: a real graph with three heads, behind a real Triton. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTritonSession } from '../../provision/export/run-gate.ts';
import { SMALL_MODEL_OUTPUTS, writeSmallModel } from '../golden/write-small-model.ts';
import { type Golden, loadGolden } from '../golden/xlmr-small.ts';
import { type RunningTriton, startTriton } from './start-triton.ts';
import { writeRepository } from './write-repository.ts';

setDefaultTimeout(60_000);

let dir: string;
let golden: Golden;
let triton: RunningTriton | undefined;

beforeAll(async () => {
  golden = await loadGolden();
  dir = mkdtempSync(join(tmpdir(), 'onnx-model-'));
  const path = join(dir, 'small.onnx');
  await writeSmallModel(path);
  const onnx = { path, outputs: SMALL_MODEL_OUTPUTS };
  const repository = join(dir, 'repository');
  writeRepository({
    dir: repository,
    models: [{ name: 'small', kind: 'onnx', datatype: 'INT64', dimension: 32, maxBatch: 8, onnx }],
  });
  triton = await startTriton({ repository });
});
afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

function session(outputs: string[]) {
  return createTritonSession({ url: triton?.url ?? '', model: 'small', outputs });
}

function expectNear(found: Float32Array | undefined, wanted: Float32Array): void {
  expect(found?.length).toBe(wanted.length);
  wanted.forEach((value, index) => {
    expect(Math.abs(value - (found?.[index] ?? Number.NaN))).toBeLessThan(1e-5);
  });
}

test('answers what PyTorch answers, for a text alone and for a padded batch', async () => {
  const all = session(Object.keys(SMALL_MODEL_OUTPUTS));
  for (const text of golden.texts) {
    const got = await all.run([text.ids]);
    expectNear(got.get('dense_vecs')?.values, text.dense);
    expectNear(got.get('sparse_vecs')?.values, text.tokenWeights);
    expectNear(got.get('colbert_vecs')?.values, text.multiVector);
  }
  const batch = golden.paddedBatch;
  const texts = batch.texts.map((index) => golden.texts[index]?.ids ?? []);
  const got = await all.run(texts, batch.tokenCount);
  expectNear(got.get('dense_vecs')?.values, batch.dense);
  expectNear(got.get('sparse_vecs')?.values, batch.tokenWeights);
  expectNear(got.get('colbert_vecs')?.values, batch.multiVector);
});

test('sends the outputs that were asked for, and no other', async () => {
  const got = await session(['sparse_vecs']).run([[0, 5, 2]]);
  expect([...got.keys()]).toEqual(['sparse_vecs']);
});

test('tells an error of the graph as an error', async () => {
  // The small model has 514 positions: a longer text finds none.
  const long = [0, ...Array<number>(600).fill(5), 2];
  await expect(session(['dense_vecs']).run([long])).rejects.toThrow(/answered 500/);
});
