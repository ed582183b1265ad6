/**
 * How `./run.sh export` ends where a GPU, Docker, TensorRT or Triton will not do: what it says,
 * what it leaves, and that nothing is downloaded for an end that could be seen before.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readEngineRecord } from '../../model/engine-record.ts';
import { until } from '../until.ts';
import { createExportFixture, type ExportFixture } from './export-fixture.ts';

// Starts of the export, of Triton and of ONNX Runtime, several of them.
setDefaultTimeout(120_000);

let fixture: ExportFixture;
beforeEach(async () => {
  fixture = await createExportFixture({ gpus: ['NVIDIA L4, 580.65.06, 8.9'] });
});
afterEach(() => fixture.close());

const plan = () => join(fixture.modelsDir, 'bge_model/1/model.plan');
const builds = () => fixture.calls().filter((call) => call.join().includes('saveEngine'));
/** Of an export that was interrupted. */
const leftBehind = () =>
  readdirSync(join(fixture.modelsDir, 'small/engine')).filter((name) =>
    ['steps.json', 'candidate'].includes(name),
  );
const failWith = async (environment: Readonly<Record<string, string>>) => {
  const { exitCode, errors } = await fixture.start({ environment }).ended;
  expect(exitCode).toBe(1);
  expect(existsSync(plan())).toBe(false);
  expect(existsSync(join(fixture.modelsDir, 'small/engine/candidate'))).toBe(false);
  return errors;
};

describe('a build that fails', () => {
  test('is told by its first error line', async () => {
    const errors = await failWith({ FAKE_FAIL: 'Error Code 2: OutOfMemory' });
    expect(errors).toContain('failed: [E] Error Code 2: OutOfMemory (all of it:');
    expect(errors).toContain('Fewer tokens a batch (--batch-tokens)');
  });

  test('for want of memory falls back to smaller batches, which the next run begins with', async () => {
    const environment = { FAKE_TOKENS_MAX: '4096' };
    const { exitCode, errors } = await fixture.start({ environment }).ended;
    expect(errors).toContain('64x64,32x512 is too large for NVIDIA L4: trtexec in');
    expect(errors).toContain('64x64,16x512 is too large for NVIDIA L4: trtexec in');
    expect(exitCode).toBe(0);
    const { engine } = (await readEngineRecord(plan())) ?? {};
    expect(engine).toMatchObject({ profiles: '64x64,8x512', profilesWanted: '64x64,32x512' });
    const config = join(fixture.modelsDir, 'bge_model/configs/engine.pbtxt');
    expect(readFileSync(config, 'utf8')).toContain('"64x64,8x512"');
    expect((await fixture.start({ flags: ['--check'] }).ended).exitCode).toBe(0);

    expect(builds()).toHaveLength(3);
    const again = await fixture.start({ environment }).ended;
    expect(again.errors).toContain('64x64,16x512 was too large before');
    expect(again.exitCode).toBe(0);
    expect(builds()).toHaveLength(4);
  });

  test('at every size ends in a no with the figures, and leaves what was found out', async () => {
    const errors = await failWith({ FAKE_TOKENS_MAX: '1000' });
    expect(errors).toContain('No engine fits NVIDIA L4: nvidia-smi tells no memory. The smallest');
    const again = await failWith({ FAKE_TOKENS_MAX: '1000' });
    expect(again).toContain('64x64,8x512 was too large before');
    expect(again).toContain('too-large.json is deleted, everything is tried again');
  });

  test('of an engine that Triton has no memory to load falls back, too', async () => {
    const words = '"failed to allocate memory: CUDA error 2: out of memory"';
    const log = `E0826 09:00:00.000002 1 logging.cc:40] ${words}`;
    const errors = await failWith({ FAKE_TRITON_LOG: log });
    expect(errors).toContain(`64x64,8x512 is too large for NVIDIA L4: Triton does not serve`);
  });

  test('because Docker has no container toolkit is told by Docker, with what to install', async () => {
    const words = 'could not select device driver "" with capabilities: [[gpu]]';
    const errors = await failWith({ FAKE_DAEMON: words });
    expect(errors).toContain(`failed: docker: Error response from daemon: ${words} (all of it:`);
    expect(errors).toContain('install nvidia-container-toolkit and restart Docker');
    expect(errors).not.toContain('docker run --help');
  });

  test('because the image cannot be pulled stops there', async () => {
    const errors = await failWith({ FAKE_UNPULLED: 'for ever' });
    expect(errors).toContain('failed: the lines above say why');
    expect(fixture.calls().map(([verb]) => verb)).not.toContain('run');
  });
});

test('a plan is printed without building, for this GPU and for any other', async () => {
  await fixture.close();
  fixture = await createExportFixture({ gpus: ['NVIDIA L4, 580.65.06, 8.9, 22563 MiB'] });
  const print = async (...flags: string[]) =>
    (await fixture.start({ flags: ['--plan', ...flags] }).ended).output;
  expect(await print()).toContain(
    'asked for: 64x64,32x512 (texts x tokens)\nfree on the GPU: 23.7 GB',
  );
  expect(await print('--gpu-memory', '0.5GB')).toContain('if attention is fused: nothing fits');
  expect(await print('--batch-tokens', '4096')).toContain('asked for: 64x64,8x512');
  expect(fixture.calls()).toEqual([]);
});

test('a Triton that cannot load the engine is told by its first error, and its log stays', async () => {
  const first = 'Error Code 1: Serialization (Version tag does not match.)';
  const log = [
    'I0826 09:00:00.000001 1 cache_manager.cc:480] "Create CacheManager"',
    `E0826 09:00:00.000002 1 logging.cc:40] "IRuntime::deserializeCudaEngine: ${first}"`,
    'E0826 09:00:00.000003 1 model_lifecycle.cc:654] "failed to load \'bge_model\' version 1"',
    'error: creating server: Internal - failed to load all models',
  ].join('\n');
  const errors = await failWith({ FAKE_TRITON_LOG: log });
  const path = join(fixture.modelsDir, 'small/engine/triton-gate.log');
  expect(errors).toContain(
    `Triton does not serve the engine: "IRuntime::deserializeCudaEngine: ${first}" (more: ${path})`,
  );
  expect(readFileSync(path, 'utf8')).toBe(log);
  expect(fixture.calls().at(-1)).toEqual(['rm', '--force', 'bge-m3-export-gate']);
});

describe('before anything is downloaded', () => {
  const nothingIsDownloaded = () => expect(fixture.hub.requests).toEqual([]);

  test('a GPU that TensorRT does not know is refused', async () => {
    await fixture.close();
    fixture = await createExportFixture({ gpus: ['Tesla V100-PCIE-16GB, 580.65.06, 7.0'] });
    expect(await failWith({})).toContain('has compute capability 7; TensorRT in');
    nothingIsDownloaded();
  });

  test('a GPU without the memory is refused with the figures', async () => {
    await fixture.close();
    fixture = await createExportFixture({ gpus: ['NVIDIA L4, 580.65.06, 8.9, 512 MiB'] });
    const errors = await failWith({});
    expect(errors).toContain('No engine fits NVIDIA L4: 0.5 GB are free. The smallest one is');
    nothingIsDownloaded();
  });

  test('a Docker that refuses this user is named, with the way to mend it', async () => {
    const words =
      'permission denied while trying to connect to the Docker daemon socket at unix:///x';
    const errors = await failWith({ FAKE_DENIED: words });
    expect(errors).toContain(`does not answer: ${words}. Docker refuses this user: sudo usermod`);
    nothingIsDownloaded();
  });

  test('an old driver is warned of, and may do', async () => {
    await fixture.close();
    fixture = await createExportFixture({ gpus: ['Tesla T4, 535.216.01, 7.5'] });
    const { exitCode, errors } = await fixture.start().ended;
    expect(errors.split('\n')[0]).toStartWith(
      'export: warning: driver 535.216.01 is older than 580',
    );
    expect(exitCode).toBe(0);
  });

  test('none of this is asked for the graphs alone', async () => {
    const environment = { FAKE_DENIED: 'permission denied' };
    const { exitCode } = await fixture.start({ flags: ['--graph-only'], environment }).ended;
    expect(exitCode).toBe(0);
    expect(fixture.calls()).toEqual([]);
  });
});

describe('an export that ends while it builds', () => {
  const startEndless = async () => {
    const started = fixture.start({ environment: { FAKE_ENDLESS: 'yes' } });
    const isBuilding = () =>
      fixture.calls().some((call) => call.join(' ').includes('--saveEngine='));
    await until('the build has begun', isBuilding);
    return started;
  };

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s takes its containers and its candidate along', async (signal, status) => {
    const started = await startEndless();
    started.kill(signal);
    const { exitCode, errors } = await started.ended;
    expect(exitCode).toBe(status);
    expect(errors).not.toContain('failed');
    expect(fixture.calls().at(-1)).toEqual([
      ...['rm', '--force', 'bge-m3-export-build', 'bge-m3-export-gate'],
    ]);
    expect(leftBehind()).toEqual(['steps.json']);
  });

  test('by a kill leaves a container, which the next one removes, and whole graphs', async () => {
    const started = await startEndless();
    started.kill();
    await started.ended;
    const graph = join(fixture.modelsDir, 'small/onnx/model.onnx_data');
    const writtenMs = statSync(graph).mtimeMs;
    const { exitCode, errors } = await fixture.start().ended;
    expect(exitCode).toBe(0);
    expect(errors).toMatch(/kept \S+onnx\/model.onnx/);
    expect(statSync(graph).mtimeMs).toBe(writtenMs);
    expect(leftBehind()).toEqual([]);
  });

  test('with the engine built is taken up at the gate, and goes all the way after that', async () => {
    const environment = { FAKE_TOKENS_MAX: '4096' };
    const started = fixture.start({ environment });
    await until('the gate has begun', () =>
      fixture.calls().some((call) => call.includes('tritonserver')),
    );
    started.kill();
    await started.ended;
    expect(existsSync(plan())).toBe(false);
    const again = await fixture.start({ environment }).ended;
    expect(again.errors).toContain('the engine was built before the export was interrupted');
    expect(again.exitCode).toBe(0);
    // Two were too large and one was built, all of them by the first run.
    expect(builds()).toHaveLength(3);
    expect(leftBehind()).toEqual([]);
    expect((await fixture.start({ flags: ['--check'], environment }).ended).exitCode).toBe(0);
  });

  test('whose engine was damaged since builds it anew', async () => {
    const started = fixture.start();
    await until('the gate has begun', () =>
      fixture.calls().some((call) => call.includes('tritonserver')),
    );
    started.kill();
    await started.ended;
    const candidate = 'small/engine/candidate/half/bge_model/1/model.plan';
    writeFileSync(join(fixture.modelsDir, candidate), 'half of it');
    const again = await fixture.start().ended;
    expect(again.errors).not.toContain('the engine was built before');
    expect(again.exitCode).toBe(0);
    expect(builds()).toHaveLength(2);
  });
});
