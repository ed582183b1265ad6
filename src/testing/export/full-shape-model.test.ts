import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fuseForCpu } from '../../provision/export/cpu/fuse-for-cpu.ts';
import { prepareGraphs } from '../../provision/export/graph/prepare-graph.ts';
import { readLinearLayer } from '../../provision/export/torch-file.ts';
import { loadFloats } from '../../provision/onnx/model.ts';
import { createOnnxSession } from '../../provision/onnx/onnx-session.ts';
import { readModel } from '../../provision/onnx/read-model.ts';
import { writeModel } from '../../provision/onnx/write-model.ts';
import { writeEncoderModel } from './full-shape-model.ts';

/** The full shape in small: the same code, in milliseconds. */
const SHAPE = {
  layerCount: 3,
  hidden: 64,
  headCount: 4,
  inner: 128,
  vocabulary: 1_000,
  positions: 66,
};
const NAMES = { dense: 'dense', sparse: 'sparse', multiVector: 'multi' };

test('a model of any shape is made, exported and answers, whatever its neighbours', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'encoder-'));
  writeEncoderModel(folder, SHAPE);
  const layers = {
    sparse: await readLinearLayer(join(folder, 'sparse_linear.pt')),
    multiVector: await readLinearLayer(join(folder, 'colbert_linear.pt')),
  };
  expect(layers.multiVector.weight.dims).toEqual([64, 64]);
  expect(loadFloats(layers.sparse.bias)[0]).toBeCloseTo(0.01, 6);
  const { exact } = prepareGraphs(readModel(join(folder, 'onnx/model.onnx')), layers, NAMES);
  const fused = fuseForCpu(exact)?.graph.nodes.filter(({ op }) => op === 'MultiHeadAttention');
  expect(fused?.length).toBe(SHAPE.layerCount);
  writeModel(exact, join(folder, 'exact.onnx'));
  const model = await createOnnxSession(join(folder, 'exact.onnx'));
  const texts = [
    [0, 5, 6, 7, 2],
    [0, 999, 2],
  ];
  const together = await model.run(texts, 64);
  for (const [row, text] of texts.entries()) {
    const alone = (await model.run([text])).get('dense')?.values ?? new Float32Array();
    const batched = together.get('dense')?.values.subarray(row * 64, (row + 1) * 64) ?? [];
    expect(Math.hypot(...alone)).toBeCloseTo(1, 5);
    alone.forEach((value, index) => {
      expect(value).toBeCloseTo(batched[index] ?? Number.NaN, 5);
    });
  }
  expect(together.get('multi')?.dims).toEqual([2, 63, 64]);
  await model.close();
  rmSync(folder, { recursive: true });
});
