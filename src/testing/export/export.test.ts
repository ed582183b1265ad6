/**
 * `./run.sh export` where there is no GPU: from a hub on loopback to both graphs.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createOnnxSession } from '../../provision/onnx/onnx-session.ts';
import { loadGolden, SMALL_MODEL_FOLDER } from '../golden/xlmr-small.ts';
import { until } from '../until.ts';
import { createExportFixture, type ExportFixture, HUB_FILES, REVISION } from './export-fixture.ts';

// Starts of the export and of ONNX Runtime, several of them.
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

  test('the export ends with the graphs, and says where it goes on', async () => {
    const { exitCode, errors } = await run();
    expect(errors).toContain('(no NVIDIA GPU here): run ./run.sh export on a machine with one');
    expect(exitCode).toBe(0);
    const asked = new Set(fixture.hub.requests.map((request) => request.path.split(REVISION)[1]));
    expect([...asked].sort()).toEqual(HUB_FILES.map((path) => `/${path}`).sort());
    expect(fixture.calls()).toEqual([]);

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
