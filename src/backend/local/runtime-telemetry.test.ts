import { afterAll, expect, test } from 'bun:test';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OnnxGraph } from '../../provision/onnx/onnx-graph.ts';

const folder = mkdtempSync(join(tmpdir(), 'runtime-telemetry-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

// Planted by hand: without the call, the runtime made `.cache/Microsoft` with a device id in it.
test('the runtime leaves no trace in the user’s home', async () => {
  const graph = new OnnxGraph();
  graph.node({ operator: 'Identity', inputs: ['x'], outputs: ['y'] });
  const parts = graph.toModel({
    ...{ name: 'identity', producer: 'test', operatorSets: { '': 21 }, metadata: {} },
    inputs: [{ name: 'x', type: 'float', dimensions: [1] }],
    outputs: [{ name: 'y', type: 'float', dimensions: [1] }],
  });
  const model = join(folder, 'identity.onnx');
  await Bun.write(model, Buffer.concat([...parts]));
  const script = `
    import { disableRuntimeTelemetry } from './src/backend/local/runtime-telemetry.ts';
    console.log(disableRuntimeTelemetry());
    const { InferenceSession } = await import('onnxruntime-node');
    await (await InferenceSession.create(${JSON.stringify(model)})).release();
  `;
  const env: Record<string, string | undefined> = { ...process.env, HOME: folder };
  // Neither what run.sh sets, nor where else a cache may be, may stand in for the call.
  for (const name of ['ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME', 'XDG_DATA_HOME']) delete env[name];
  const child = Bun.spawn([process.execPath, '-e', script], { env, stderr: 'pipe' });
  const [output, complaints] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect({ output, complaints, status: await child.exited }).toEqual({
    output: 'true\n',
    complaints: '',
    status: 0,
  });
  expect(existsSync(join(folder, '.cache/Microsoft'))).toBe(false);
});
