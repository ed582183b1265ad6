/**
 * The whole of `./run.sh export`, from a hub on loopback to an engine in place, with stand-ins
 * where a GPU is needed.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { withGraph } from '../../../scripts/export/graph/graph-edit.ts';
import { prepareGraphs } from '../../../scripts/export/graph/prepare-graph.ts';
import { readModel } from '../../../scripts/export/onnx/read-model.ts';
import { floatTensor, loadFloats, type Tensor } from '../../../scripts/export/onnx/tensor.ts';
import { writeModel } from '../../../scripts/export/onnx/write-model.ts';
import { createOnnxSession } from '../../../scripts/export/onnx-session.ts';
import { readLinearLayer } from '../../../scripts/export/torch-file.ts';
import { decodeSelfCheckRow, readPlanRecord } from '../../model/plan-record.ts';
import { loadGolden, SMALL_MODEL_FOLDER } from '../golden/xlmr-small.ts';
import { until } from '../until.ts';
import { createExportFixture, type ExportFixture, HUB_FILES, REVISION } from './export-fixture.ts';

// Starts of the export, of Triton and of ONNX Runtime, several of them.
setDefaultTimeout(120_000);

const sha256 = (path: string) =>
  new Bun.CryptoHasher('sha256').update(readFileSync(path)).digest('hex');

/** sha256 of every file that an export writes, and of no other. */
function written(fixture: ExportFixture): Record<string, string> {
  const folder = join(fixture.modelsDir, 'small');
  const paths = [
    'onnx/model.onnx',
    'onnx/model.onnx_data',
    'half/model.onnx',
    'half/model.onnx_data',
  ];
  return Object.fromEntries(paths.map((path) => [path, sha256(join(folder, path))]));
}

describe('without a GPU', () => {
  let fixture: ExportFixture;
  beforeEach(async () => {
    fixture = await createExportFixture();
  });
  afterEach(() => fixture.close());
  const run = () => fixture.start().ended;

  test('the export ends with the command that builds the engine', async () => {
    const { exitCode, errors } = await run();
    expect(errors).toContain('trtexec --onnx=');
    expect(errors).toContain('--maxShapes=input_ids:32x512,attention_mask:32x512');
    expect(exitCode).toBe(0);
    const asked = new Set(fixture.hub.requests.map((request) => request.path.split(REVISION)[1]));
    expect([...asked].sort()).toEqual(HUB_FILES.map((path) => `/${path}`).sort());
    expect(fixture.dockerCalls()).toEqual([]);

    const golden = await loadGolden();
    const model = await createOnnxSession(join(fixture.modelsDir, 'small/onnx/model.onnx'));
    for (const text of golden.texts) {
      const got = await model.run([text.ids]);
      for (const [name, wanted] of [
        ['dense_vecs', text.dense],
        ['sparse_vecs', text.tokenWeights],
        ['colbert_vecs', text.multiVector],
      ] as const) {
        const found = got.get(name)?.values ?? new Float32Array();
        expect(found.length).toBe(wanted.length);
        wanted.forEach((value, index) => {
          expect(Math.abs(value - (found[index] ?? Number.NaN))).toBeLessThan(1e-5);
        });
      }
    }
    await model.close();
  });

  test('killed in the middle of any file and started again, it ends the same', async () => {
    await run();
    const whole = written(fixture);
    for (const [path, at] of [
      ['onnx/model.onnx', 20_000],
      ['onnx/model.onnx_data', 1],
      ['onnx/model.onnx_data', 200_001],
      ['sparse_linear.pt', 600],
      ['onnx/Constant_7_attr__value', 4_000],
    ] as const) {
      await fixture.close();
      fixture = await createExportFixture();
      fixture.hub.setFault((seen) =>
        seen.path.endsWith(path) ? { stallAfterBytes: at } : undefined,
      );
      const killed = fixture.start();
      const target = join(fixture.modelsDir, 'small/downloads', path);
      const sizeOf = () => statSync(`${target}.partial`, { throwIfNoEntry: false })?.size;
      await until(`${at} bytes of ${path} are on the disk`, () => sizeOf() === at);
      killed.kill();
      await killed.ended;
      expect(existsSync(target)).toBe(false);
      fixture.hub.setFault(undefined);
      const seenBefore = fixture.hub.requests.length;
      expect((await run()).exitCode).toBe(0);
      // It goes on where it was: one request for the rest of this file, and none for those that
      // were whole.
      expect(fixture.hub.requests[seenBefore]?.range).toBe(`bytes=${at}-`);
      expect(written(fixture)).toEqual(whole);
    }
  });

  test('a second export downloads nothing', async () => {
    await run();
    const count = fixture.hub.requests.length;
    expect((await run()).exitCode).toBe(0);
    expect(fixture.hub.requests.length).toBe(count);
  });

  test('a wrong hash is refused, and nothing has its final name', async () => {
    fixture.hub.setFault((seen) => (seen.path.endsWith('_data') ? { flipByteAt: 77 } : undefined));
    const { exitCode, errors } = await run();
    expect(exitCode).toBe(1);
    expect(errors).toMatch(/export: \S+model.onnx_data is not the file that was pinned/);
    expect(readdirSync(join(fixture.modelsDir, 'small/downloads/onnx')).sort()).toEqual([
      'Constant_7_attr__value',
      'model.onnx',
    ]);
    expect(existsSync(join(fixture.modelsDir, 'small/onnx'))).toBe(false);
  });

  test("a folder takes the hub's place", async () => {
    const from = join(SMALL_MODEL_FOLDER, 'hub');
    expect((await fixture.start({ flags: ['--from', from] }).ended).exitCode).toBe(0);
    expect(fixture.hub.requests).toEqual([]);
    const lost = await fixture.start({ flags: ['--from', fixture.modelsDir] }).ended;
    expect(lost.errors).toContain('has no onnx/model.onnx');
  });

  test('wrong flags are named', async () => {
    const { exitCode, errors } = await fixture.start({ flags: ['--hub', 'ftp://x'] }).ended;
    expect(exitCode).toBe(2);
    expect(errors).toContain('--hub must be an http address, not "ftp://x"');
  });
});

describe('with a GPU', () => {
  let fixture: ExportFixture;
  beforeEach(async () => {
    fixture = await createExportFixture({ gpu: 'NVIDIA L4' });
  });
  afterEach(() => fixture.close());
  const plan = () => join(fixture.modelsDir, 'bge_model/1/model.plan');
  const check = async () => fixture.start({ flags: ['--check'] }).ended;

  test('the engine is built in the serving image, proves itself, and gets its place and record', async () => {
    const { exitCode, errors } = await fixture.start({ flags: ['--image', 'triton:1'] }).ended;
    expect(errors).toMatch(/gate: dense_vecs: least cosine 0.99999/);
    expect(exitCode).toBe(0);
    const record = await readPlanRecord(plan());
    expect(record).toMatchObject({
      model: 'small',
      source: { revision: REVISION },
      engine: {
        tensorrt: '10.13.2',
        gpu: 'NVIDIA L4',
        image: 'triton:1',
        batchMax: 32,
        tokensMax: 512,
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
    expect(fixture.dockerCalls().at(-1)?.[0]).toBe('stop');
    expect(readdirSync(fixture.modelsDir).sort()).toEqual(['bge_model', 'small', 'small.json']);

    const flags = ['--check', '--image', 'triton:1'];
    expect((await fixture.start({ flags }).ended).exitCode).toBe(0);
    const other = await check();
    expect(other.exitCode).toBe(1);
    expect(other.errors).toContain('it was built in triton:1, not in');
  });

  test('TensorRT 11 gets its own command line', async () => {
    const environment = { STAND_IN_TENSORRT: '110100' };
    expect((await fixture.start({ environment }).ended).exitCode).toBe(0);
    expect((await readPlanRecord(plan()))?.engine.tensorrt).toBe('11.1.0');
  });

  test('an engine that answers something else is refused with the figures', async () => {
    const graph = join(fixture.modelsDir, 'perturbed.onnx');
    const hub = join(SMALL_MODEL_FOLDER, 'hub');
    const layers = {
      sparse: readLinearLayer(join(hub, 'sparse_linear.pt')),
      multiVector: readLinearLayer(join(hub, 'colbert_linear.pt')),
    };
    const names = { dense: 'dense_vecs', sparse: 'sparse_vecs', multiVector: 'colbert_vecs' };
    const { exact } = prepareGraphs(readModel(join(hub, 'model.onnx')), layers, names);
    writeModel(withGraph(exact, { constants: perturbed(exact.graph.constants) }), graph);
    const { exitCode, errors } = await fixture.start({ environment: { STAND_IN_GRAPH: graph } })
      .ended;
    expect(exitCode).toBe(1);
    expect(errors).toMatch(
      /The engine is refused. dense_vecs: cosine 0.9\d+, at least 0.9998 wanted/,
    );
    expect(existsSync(plan())).toBe(false);
    expect(readdirSync(fixture.modelsDir)).not.toContain('bge_model.candidate');
    expect((await check()).errors).toContain('model.plan is not there');
  });

  test('a build that fails is told by its first error line', async () => {
    const environment = { STAND_IN_FAIL: 'Error Code 2: OutOfMemory' };
    const { exitCode, errors } = await fixture.start({ environment }).ended;
    expect(exitCode).toBe(1);
    expect(errors).toContain('failed: [E] Error Code 2: OutOfMemory (all of it:');
    expect(errors).toContain('A smaller max_batch_size in config.pbtxt');
    expect(existsSync(plan())).toBe(false);
  });
});

/** The matrix of the last layer that has this shape, a tenth larger in every third place. */
function perturbed(constants: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const matrix = [...constants.values()].findLast((tensor) => tensor.dims.join() === '64,32');
  if (!matrix) throw new Error('The small model has no such matrix.');
  const values = loadFloats(matrix).map((value, index) => value * (index % 3 === 0 ? 1.1 : 1));
  return new Map([...constants, [matrix.name, floatTensor(matrix.name, [64, 32], values)]]);
}
