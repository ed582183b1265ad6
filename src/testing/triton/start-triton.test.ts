import { afterAll, beforeAll, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep, systemClock } from '../../base/clock.ts';
import { freePorts } from './free-ports.ts';
import { inferByHand } from './infer-by-hand.ts';
import { type RunningTriton, startTriton } from './start-triton.ts';
import { type TritonModelOptions, writeFault, writeRepository } from './write-repository.ts';

// A polite stop takes up to the fixture's own 8 s, more than Bun grants a test.
setDefaultTimeout(60_000);

const dir = mkdtempSync(join(tmpdir(), 'triton-life-'));
const repository = join(dir, 'models');
const controlFile = join(dir, 'fault.json');
const MODEL: TritonModelOptions = {
  name: 'wide',
  kind: 'faulty',
  datatype: 'INT64',
  dimension: 8,
  maxBatch: 32,
  inputs: { ids: 'ids', mask: 'mask' },
  output: 'dense',
  faults: { controlFile },
};
let triton: RunningTriton;

beforeAll(async () => {
  writeRepository({ dir: repository, models: [MODEL] });
  triton = await startTriton({ repository });
});

afterAll(async () => {
  await triton?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Sends as many short texts as asked. */
const ask = (textCount: number) =>
  inferByHand({
    url: triton.url,
    model: 'wide',
    datatype: 'INT64',
    inputs: { ids: 'ids', mask: 'mask' },
    texts: Array.from({ length: textCount }, (_, index) => [0, index, 2]),
  });

test('answers its version and the metadata that config.pbtxt gave', async () => {
  const server = await (await fetch(`${triton.url}/v2`, { keepalive: false })).json();
  expect(server).toMatchObject({ name: 'triton', version: '2.51.0' });
  const model = await fetch(`${triton.url}/v2/models/wide`, { keepalive: false });
  expect(await model.json()).toMatchObject({
    inputs: [
      { name: 'ids', datatype: 'INT64', shape: [-1, -1] },
      { name: 'mask', datatype: 'INT64', shape: [-1, -1] },
    ],
    outputs: [{ name: 'dense', datatype: 'FP32', shape: [-1, 8] }],
  });
});

test('statistics count executions and texts', async () => {
  const before = await triton.statistics('wide');
  await ask(3);
  await ask(5);
  const requestCountMin = before.requestCount + 2;
  const after = await triton.statistics('wide', { requestCountMin });
  expect(after.executionCount - before.executionCount).toBe(2);
  expect(after.inferenceCount - before.inferenceCount).toBe(8);
  expect(after.requestCount - before.requestCount).toBe(2);
  expect((after.batches.get(5) ?? 0) - (before.batches.get(5) ?? 0)).toBe(1);
});

test('comes back on the same port after a crash', async () => {
  const { pid, url } = triton;
  triton.signal('SIGKILL');
  expect(await triton.ended()).toBe('SIGKILL');
  await triton.restart();
  expect(triton.url).toBe(url);
  expect(triton.pid).not.toBe(pid);
  expect((await ask(1)).status).toBe(200);
  const { executionCount } = await triton.statistics('wide', { requestCountMin: 1 });
  expect(executionCount).toBe(1);
});

test('a model whose process died fails until a restart, unseen by readiness', async () => {
  writeFault({ controlFile, fault: 'crash' });
  expect((await ask(1)).status).toBe(500);
  writeFault({ controlFile, fault: 'none' });
  expect((await ask(1)).status).toBe(500);
  expect((await fetch(`${triton.url}/v2/models/wide/ready`, { keepalive: false })).ok).toBe(true);
  // A polite stop would wait for the dead process.
  triton.signal('SIGKILL');
  await triton.restart();
  expect((await ask(1)).status).toBe(200);
});

test('a taken port is told, not shared with the one that has it', async () => {
  const [http = 0, grpc = 0] = freePorts(2);
  const ports = { http, grpc, metrics: triton.metricsPort };
  const second = startTriton({ repository, ports });
  await expect(second).rejects.toThrow(`port ${triton.metricsPort} of 127.0.0.1 is taken`);
});

test('a stopped one leaves no process and no shared memory', async () => {
  const { pid, url } = triton;
  const mark = `bge-test-${process.pid}-`;
  expect(processesWith(mark)).not.toEqual([]);
  // Stalled, as by a debugger: it must end all the same.
  triton.signal('SIGSTOP');
  await triton.stop();
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect(processesWith(mark)).toEqual([]);
  expect(readdirSync('/dev/shm').filter((name) => name.startsWith(mark))).toEqual([]);
  await expect(fetch(`${url}/v2/health/live`)).rejects.toThrow();
  expect(triton.logs()).toContain('wide');
});

test('it ends with the process that started it, however that ends', async () => {
  const script = `
    import { startTriton } from ${JSON.stringify(join(import.meta.dir, 'start-triton.ts'))};
    const triton = await startTriton({ repository: ${JSON.stringify(repository)} });
    console.log(triton.pid);
    await triton.ended();
  `;
  const parent = Bun.spawn([process.execPath, '-e', script], {
    stdout: 'pipe',
    // It leaves its log behind; so it goes with our folder.
    env: { PATH: '/usr/bin:/bin', TMPDIR: dir },
  });
  const { value } = await parent.stdout.getReader().read();
  const pid = Number(new TextDecoder().decode(value));
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  parent.kill('SIGKILL');
  await parent.exited;
  // Bun's own time limit ends this loop when the process stays.
  while (processesWith(`bge-test-${parent.pid}-`).length > 0) await sleep(systemClock, 20);
  expect(processesWith(`bge-test-${parent.pid}-`)).toEqual([]);
});

test('a configuration that Triton rejects is told in its own words', async () => {
  const rejected = join(dir, 'rejected');
  writeRepository({ dir: rejected, models: [MODEL] });
  writeFileSync(join(rejected, 'wide/config.pbtxt'), 'name: "wide"\nmax_batch: 3\n');
  await expect(startTriton({ repository: rejected })).rejects.toThrow(/max_batch/);
});

test('a start that takes too long is ended', async () => {
  const slow = join(dir, 'slow-start');
  writeRepository({ dir: slow, models: [MODEL] });
  writeFileSync(join(slow, 'wide/1/model.py'), 'import time\ntime.sleep(3600)\n');
  const start = startTriton({ repository: slow, startMsMax: 500 });
  await expect(start).rejects.toThrow(/within 500 ms/);
  expect(processesWith(`bge-test-${process.pid}-`)).toEqual([]);
});

/** Process ids whose command line carries `mark`. */
function processesWith(mark: string): string[] {
  return readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(mark);
    } catch {
      return false;
    }
  });
}
