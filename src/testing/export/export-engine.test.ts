/**
 * The end of `./run.sh export`, from both graphs to an engine that has proved itself, with
 * fakes for the GPU, Docker and TensorRT.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeSelfCheckRow, readEngineRecord } from '../../model/engine-record.ts';
import { withGraph } from '../../provision/export/graph/graph-edit.ts';
import { prepareGraphs } from '../../provision/export/graph/prepare-graph.ts';
import { readLinearLayer } from '../../provision/export/torch-file.ts';
import { floatTensor, loadFloats, type Tensor } from '../../provision/onnx/model.ts';
import { readModel } from '../../provision/onnx/read-model.ts';
import { writeModel } from '../../provision/onnx/write-model.ts';
import { loadGolden, SMALL_MODEL_FOLDER } from '../golden/xlmr-small.ts';
import { createExportFixture, type ExportFixture, HUB_FILES, REVISION } from './export-fixture.ts';

// Starts of the export, of Triton and of ONNX Runtime, several of them.
setDefaultTimeout(120_000);

const sha256 = (path: string) =>
  new Bun.CryptoHasher('sha256').update(readFileSync(path)).digest('hex');

describe('with a GPU', () => {
  let fixture: ExportFixture;
  beforeEach(async () => {
    fixture = await createExportFixture({
      gpus: ['NVIDIA L4, 580.65.06, 8.9', 'NVIDIA T4, 580.65.06, 7.5'],
    });
  });
  afterEach(() => fixture.close());
  const plan = () => join(fixture.modelsDir, 'bge_model/1/model.plan');
  const check = async () => fixture.start({ flags: ['--check'] }).ended;

  test('the engine is built in the serving image, proves itself, and gets its place and record', async () => {
    const { exitCode, errors } = await fixture.start({ flags: ['--image', 'triton:1'] }).ended;
    expect(errors).toMatch(/gate: dense_vecs: least cosine 0.99999/);
    expect(exitCode).toBe(0);
    const record = await readEngineRecord(plan());
    expect(record).toMatchObject({
      model: 'small',
      source: { revision: REVISION },
      engine: {
        tensorrt: '10.13.2',
        gpu: 'NVIDIA L4',
        image: 'triton:1',
        profiles: '64x64,32x512',
        profilesWanted: '64x64,32x512',
        attention: { precision: 'half', fusion: 'fused', fusedCount: 1 },
      },
      gate: { passed: true },
    });
    expect(record?.engine.sha256).toBe(sha256(plan()));
    expect(record?.graphs.half.data).toBe(
      sha256(join(fixture.modelsDir, 'small/half/model.onnx_data')),
    );
    expect(Object.keys(record?.source.files ?? {}).sort()).toEqual([...HUB_FILES].sort());
    const golden = await loadGolden();
    const row = decodeSelfCheckRow(record?.selfCheck.dense ?? '');
    expect(row.length).toBe(32);
    expect(Math.abs((row[0] ?? 0) - (golden.texts[0]?.dense[0] ?? 1))).toBeLessThan(1e-5);
    expect(fixture.calls().at(-1)).toEqual(['rm', '--force', 'bge-m3-export-gate']);
    const build = fixture.calls().find((call) => call.join(' ').includes('--saveEngine='));
    expect(build).toContain('--maxShapes=input_ids:32x512,attention_mask:32x512');
    const config = join(fixture.modelsDir, 'bge_model/configs/engine.pbtxt');
    expect(readFileSync(config, 'utf8')).toContain('string_value: "64x64,32x512"');
    expect(readdirSync(fixture.modelsDir).sort()).toEqual(['bge_model', 'small', 'small.json']);

    const flags = ['--check', '--image', 'triton:1'];
    expect((await fixture.start({ flags }).ended).exitCode).toBe(0);
    // An upgrade may have brought another config.pbtxt: the engine's own is written anew.
    expect(existsSync(config)).toBe(true);
    writeFileSync(config, 'of an older version');
    expect((await fixture.start({ flags }).ended).exitCode).toBe(0);
    expect(readFileSync(config, 'utf8')).toContain('profile: [ "0", "1" ]');
    const other = await check();
    expect(other.exitCode).toBe(1);
    expect(other.errors).toContain('it was built in triton:1, not in');
  });

  test('attention that is not fused is warned of with its cost, and recorded', async () => {
    const environment = { FAKE_LAYERS: '__myl_MaxrSubExpSumDivMul_myl0_9,__myl_Gemm' };
    const { exitCode, errors } = await fixture.start({ environment }).ended;
    expect(errors).toContain(
      'warning: attention in half is not fused (0 fused kernels, 1 of softmax',
    );
    expect(exitCode).toBe(0);
    expect((await readEngineRecord(plan()))?.engine.attention.fusion).toBe('none');
  });

  test('TensorRT 11.3 gets attention in float32, which it fuses', async () => {
    const environment = { FAKE_TENSORRT: '110300' };
    const { exitCode, errors } = await fixture.start({ environment }).ended;
    expect(errors).toContain('writing the graph with attention in float\n');
    expect(exitCode).toBe(0);
    expect((await readEngineRecord(plan()))?.engine.attention.precision).toBe('float');
  });

  test('bfloat16 is built when asked, and taken where it is nearer', async () => {
    // What runs in its place here is the model itself; then what ONNX Runtime cannot run.
    const exact = join(fixture.modelsDir, 'small/onnx/model.onnx');
    const flags = ['--bfloat16'];
    const environment = { FAKE_SECOND_GRAPH: exact };
    const near = await fixture.start({ flags, environment }).ended;
    expect(near.errors).toMatch(/bfloat16 is nearer: taken \(1\.0000000, 0\.99/);
    expect((await readEngineRecord(plan()))?.engine.attention.precision).toBe('bfloat16');
    const left = await fixture.start({ flags }).ended;
    expect(left.errors).toContain('bfloat16 is left: Triton does not serve the engine');
    expect(left.exitCode).toBe(0);
    expect((await readEngineRecord(plan()))?.engine.attention.precision).toBe('half');
    const turing = await fixture.start({ flags: [...flags, '--gpu', '1'] }).ended;
    expect(turing.errors).toContain('NVIDIA T4 has no bfloat16: only float16 is built');
    expect(turing.exitCode).toBe(0);
  });

  test('TensorRT 11 gets its own command line', async () => {
    const environment = { FAKE_TENSORRT: '110100' };
    expect((await fixture.start({ environment }).ended).exitCode).toBe(0);
    expect((await readEngineRecord(plan()))?.engine.tensorrt).toBe('11.1.0');
  });

  test('an engine that answers something else is refused with the figures', async () => {
    const graph = join(fixture.modelsDir, 'perturbed.onnx');
    const hub = join(SMALL_MODEL_FOLDER, 'hub');
    const layers = {
      sparse: await readLinearLayer(join(hub, 'sparse_linear.pt')),
      multiVector: await readLinearLayer(join(hub, 'colbert_linear.pt')),
    };
    const names = { dense: 'dense_vecs', sparse: 'sparse_vecs', multiVector: 'colbert_vecs' };
    const { exact } = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, names);
    writeModel(withGraph(exact, { constants: perturbed(exact.graph.constants) }), graph);
    const { exitCode, errors } = await fixture.start({ environment: { FAKE_GRAPH: graph } }).ended;
    expect(exitCode).toBe(1);
    expect(errors).toContain('attention in half: The engine is refused.');
    expect(errors).toContain('writing the graph with attention in float-softmax');
    expect(errors).toMatch(
      /The engine is refused. dense_vecs: cosine 0.9\d+, at least 0.9998 wanted/,
    );
    expect(existsSync(plan())).toBe(false);
    expect(readdirSync(join(fixture.modelsDir, 'small/engine'))).not.toContain('candidate');
    expect((await check()).errors).toContain('model.plan is not there');
  });

  test('another GPU is named once, and builds, proves and is recorded', async () => {
    const { exitCode } = await fixture.start({ environment: { TRITON_GPU: '1' } }).ended;
    expect(exitCode).toBe(0);
    expect((await readEngineRecord(plan()))?.engine.gpu).toBe('NVIDIA T4');
    const runs = fixture.calls().filter(([verb]) => verb === 'run');
    expect(runs.map((call) => call[call.indexOf('--gpus') + 1])).toEqual([
      'device=1',
      'device=1',
      'device=1',
    ]);
    // Compose would serve with the first one, which is another.
    const flags = ['--check', '--gpu', '0'];
    expect((await fixture.start({ flags }).ended).errors).toContain(
      'it was built on "NVIDIA T4", this is "NVIDIA L4"',
    );
  });

  test('an image that is not there is pulled, once and for all to see', async () => {
    const environment = { FAKE_UNPULLED: 'yes' };
    const first = await fixture.start({ environment, flags: ['--image', 'triton:1'] }).ended;
    expect(first.errors).toMatch(
      /pulling triton:1: about 8 GB, which take 16 GB of disk; \S+ has /,
    );
    expect(first.errors).toContain('triton:1: Pulling fs layer');
    expect(first.exitCode).toBe(0);
    await fixture.start({ environment, flags: ['--image', 'triton:1'] }).ended;
    expect(fixture.calls().filter(([verb]) => verb === 'pull')).toHaveLength(1);
  });
});

/** The matrix of the last layer that has this shape, a tenth larger in every third place. */
function perturbed(constants: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const matrix = [...constants.values()].findLast((tensor) => tensor.dims.join() === '64,32');
  if (!matrix) throw new Error('The small model has no such matrix.');
  const values = loadFloats(matrix).map((value, index) => value * (index % 3 === 0 ? 1.1 : 1));
  return new Map([...constants, [matrix.name, floatTensor(matrix.name, [64, 32], values)]]);
}
