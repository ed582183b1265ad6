import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SMALL_MODEL_FOLDER } from '../../testing/golden/xlmr-small.ts';
import { ELEMENT, generatedData, loadFloats, type OnnxModel, type Tensor } from '../onnx/model.ts';
import { createOnnxSession, type ModelRunner } from '../onnx/onnx-session.ts';
import { readModel } from '../onnx/read-model.ts';
import { writeModel } from '../onnx/write-model.ts';
import { renameTensors, withGraph } from './graph/graph-edit.ts';
import { prepareGraphs } from './graph/prepare-graph.ts';
import { gateTextIds, referenceTokensMax, runGate } from './run-gate.ts';
import { readLinearLayer } from './torch-file.ts';

const NAMES = { dense: 'dense_vecs', sparse: 'sparse_vecs', multiVector: 'colbert_vecs' };
const OUTPUTS = Object.values(NAMES);
const TOKENS_MAX = 512;

let folder: string;
let graphs: ReturnType<typeof prepareGraphs>;
let reference: ModelRunner;
const runners: ModelRunner[] = [];

async function load(model: OnnxModel): Promise<ModelRunner> {
  const path = join(await mkdtemp(join(folder, 'model-')), 'model.onnx');
  writeModel(model, path);
  const runner = await createOnnxSession(path);
  runners.push(runner);
  return runner;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gate-test-'));
  const hub = join(SMALL_MODEL_FOLDER, 'hub');
  const layers = {
    sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
  };
  graphs = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, NAMES);
  reference = await load(graphs.exact);
});
afterAll(async () => {
  await Promise.all(runners.map((runner) => runner.close()));
  await rm(folder, { recursive: true });
});

const judge = async (candidate: ModelRunner) =>
  runGate({ reference, candidate, outputs: OUTPUTS, tokensMax: TOKENS_MAX });

/** The same model with one constant changed, number by number. */
function perturbed(name: string, change: (value: number, index: number) => number): OnnxModel {
  const exact = graphs.exact.graph.constants.get(name);
  expect(exact).toBeDefined();
  const values = loadFloats(exact as Tensor);
  const data = generatedData({
    elementCount: values.length,
    fill: (piece, first) => {
      for (let i = 0; i < piece.length; i += 1) {
        piece[i] = change(values[first + i] ?? 0, first + i);
      }
    },
  });
  const tensor = { ...(exact as Tensor), elementType: ELEMENT.float, data };
  const constants = new Map([...graphs.exact.graph.constants, [name, tensor]]);
  return withGraph(graphs.exact, { constants });
}

/** The largest matrices are those of the second layer's feed-forward part. */
function layerMatrix(): string {
  const matrices = [...graphs.exact.graph.constants.values()].filter(
    (tensor) => tensor.dims.join() === '64,32',
  );
  return matrices.at(-1)?.name ?? '';
}

describe('the gate lets through', () => {
  test('the same graph in float16, with figures', async () => {
    const verdict = await judge(await load(graphs.half('half')));
    expect(verdict.reasons).toEqual([]);
    expect(verdict.passed).toBe(true);
    for (const output of OUTPUTS) {
      expect(verdict.heads[output]?.cosineMin).toBeGreaterThan(0.9998);
      // Not the very same numbers, or the comparison compares something with itself.
      expect(verdict.heads[output]?.differenceMax).toBeGreaterThan(0);
    }
  });
});

describe('the gate refuses', () => {
  test('a model with one perturbed layer, and says by how much', async () => {
    const model = perturbed(layerMatrix(), (value, index) => value * (index % 3 === 0 ? 1.2 : 1));
    const verdict = await judge(await load(model));
    expect(verdict.passed).toBe(false);
    expect(verdict.reasons.join()).toMatch(/dense_vecs: cosine 0\.99\d+, at least 0.9998 wanted/);
  });

  test('a NaN in the weights of a layer', async () => {
    const model = perturbed(layerMatrix(), (value, index) => (index === 7 ? Number.NaN : value));
    const verdict = await judge(await load(model));
    expect(verdict.reasons.join()).toMatch(/dense_vecs: \d+ values not finite/);
    expect(verdict.heads.dense_vecs?.cosineMin).toBeNaN();
  });

  test('a NaN in a head, naming that head alone', async () => {
    const model = perturbed('heads/sparse/bias', () => Number.NaN);
    const verdict = await judge(await load(model));
    expect(verdict.reasons.every((reason) => reason.startsWith('sparse_vecs'))).toBe(true);
    expect(verdict.passed).toBe(false);
  });

  test('swapped outputs', async () => {
    const swap = new Map([
      ['dense_vecs', 'colbert_vecs'],
      ['colbert_vecs', 'dense_vecs'],
    ]);
    const model = renameTensors(graphs.exact, (name) => swap.get(name) ?? name);
    const verdict = await judge(await load(model));
    expect(verdict.reasons.join()).toMatch(/dense_vecs: \d+ of \d+ answers missing or misshapen/);
    expect(verdict.heads.sparse_vecs?.cosineMin).toBeGreaterThan(0.9999);
  });

  test('a missing output', async () => {
    const outputs = graphs.exact.graph.outputs.filter((output) => output.name !== 'sparse_vecs');
    const verdict = await judge(await load(withGraph(graphs.exact, { outputs })));
    expect(verdict.reasons.join()).toContain('sparse_vecs');
    expect(verdict.reasons.join()).toContain('nothing given');
  });

  test('a text that its neighbours change', async () => {
    const exact = await load(graphs.exact);
    const leaky: ModelRunner = {
      // Forgets the mask of a batch, as an engine without it would.
      run: (texts, tokenCount) => {
        const longest = Math.max(...texts.map((ids) => ids.length));
        const full = texts.map((ids) => [...ids, ...Array(longest - ids.length).fill(2)]);
        return exact.run(texts.length > 1 ? full : texts, tokenCount);
      },
      close: async () => {},
    };
    expect((await judge(leaky)).passed).toBe(false);
  });

  test('everything, when there is nothing to compare', async () => {
    const verdict = await runGate({
      reference,
      candidate: reference,
      outputs: ['none'],
      tokensMax: TOKENS_MAX,
    });
    expect(verdict.reasons).toEqual(['none: nothing was compared.']);
  });
});

test('the texts of the gate are texts, of many lengths', () => {
  const texts = gateTextIds(8_192);
  expect(texts.every((ids) => ids[0] === 0 && ids.at(-1) === 2 && ids.length >= 3)).toBe(true);
  expect(Math.max(...texts.map((ids) => ids.length))).toBe(8_000);
  expect(gateTextIds(512).every((ids) => ids.length <= 512)).toBe(true);
});

test('texts that the float32 model cannot run here are left out', () => {
  const limits = { tokensMax: 8_192, dimension: 1_024 };
  expect(referenceTokensMax({ ...limits, freeBytes: 64e9 })).toBe(8_192);
  expect(referenceTokensMax({ ...limits, freeBytes: 8e9 })).toBeWithin(4_096, 8_000);
  expect(referenceTokensMax({ ...limits, freeBytes: 0 })).toBe(0);
});
