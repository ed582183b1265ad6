import { afterAll, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { type InferenceEngine, loadInferenceEngine } from '../../backend/local/inference-engine.ts';
import { joinTokenIds } from '../../backend/local/inference-protocol.ts';
import { loadManifest } from '../../model/manifest.ts';
import { LEGAL_PAIRS } from '../legal-pairs.ts';
import { createReferenceTokenizer } from '../reference-tokenizer.ts';

// Two models are loaded and eighty texts run on each, on one thread.
setDefaultTimeout(120_000);

const MODELS = join(import.meta.dir, '../../../models');
const manifest = await loadManifest({ modelsDir: MODELS, name: 'multilingual-e5-small' });
const tokenizer = createReferenceTokenizer(join(MODELS, manifest.id, 'tokenizer.json'));
const engines = new Map<string, InferenceEngine>();
for (const { path, role } of manifest.files) {
  if (role !== 'model') continue;
  const modelPath = join(MODELS, manifest.id, path);
  const { outputs, dimension } = manifest;
  engines.set(
    path,
    await loadInferenceEngine({
      modelPath,
      outputs,
      dimension,
      threadCount: 1,
      wideThreadCount: 0,
    }),
  );
}
afterAll(async () => {
  for (const engine of engines.values()) await engine.release();
});

async function rowOf(engine: InferenceEngine, text: string): Promise<Float32Array> {
  const [{ ids }] = await tokenizer.encode([text], { specialTokens: true });
  const { dense } = await engine.run({
    messageId: 1,
    ...joinTokenIds([ids]),
    heads: ['dense'],
    isAlone: false,
  });
  return dense ?? new Float32Array();
}

const cosine = (a: Float32Array, b: Float32Array): number =>
  a.reduce((sum, value, index) => sum + value * b[index], 0);

async function rowsOf(engine: InferenceEngine) {
  const { query, passage } = manifest.prefixes;
  const queries: Float32Array[] = [];
  const passages: Float32Array[] = [];
  for (const pair of LEGAL_PAIRS) {
    queries.push(await rowOf(engine, query + pair.query));
    passages.push(await rowOf(engine, passage + pair.passage));
  }
  return { queries, passages };
}

const rows = new Map<string, Awaited<ReturnType<typeof rowsOf>>>();
for (const [path, engine] of engines) rows.set(path, await rowsOf(engine));

test.each([...rows.keys()])('%s finds the passage that answers each question first', (path) => {
  const { queries, passages } = rows.get(path) ?? { queries: [], passages: [] };
  const first = queries.map((query) => {
    const scores = passages.map((passage) => cosine(query, passage));
    return scores.indexOf(Math.max(...scores));
  });
  expect(first).toEqual(LEGAL_PAIRS.map((_, index) => index));
});

test('int8 rows lie within a cosine of 0.9985 of those computed in float32, 0.9994 on average', () => {
  // `model.onnx` multiplies the same four-bit weights in float32.
  const exact = rows.get('onnx/model.onnx');
  const fast = rows.get('onnx/model-int8.onnx');
  const cosines = (['queries', 'passages'] as const).flatMap((kind) =>
    (exact?.[kind] ?? []).map((row, index) => cosine(row, fast?.[kind][index] ?? row)),
  );
  expect(cosines.length).toBe(2 * LEGAL_PAIRS.length);
  expect(Math.min(...cosines)).toBeGreaterThan(0.9985);
  expect(cosines.reduce((sum, one) => sum + one) / cosines.length).toBeGreaterThan(0.9994);
});
