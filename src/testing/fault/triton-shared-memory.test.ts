import {
  afterAll,
  afterEach,
  beforeAll,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from 'bun:test';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSharedFile, removeLeftBehind } from '../../backend/triton/shared-files.ts';
import type { TritonBackend } from '../../backend/triton/triton-backend.ts';
import { systemClock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { headSet } from '../../vectors/output.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { type RunningTriton, startTriton } from '../triton/start-triton.ts';
import { writeRepository } from '../triton/write-repository.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { until } from '../until.ts';

// Triton starts in half a second, and may take three to stop.
setDefaultTimeout(60_000);

const DIMENSION = 1024;
const HEADS = headSet(['dense']);
/** A text with this token is answered late. */
const SLOW = 4242;
const SLOW_MS = 1500;
const TIMEOUT_MS = 400;

/**
 * A real Triton and real shared memory. Each row that comes back is compared bit by bit with one
 * that was computed apart from both.
 *
 * Caught, planted: a slot that is used again before its rows were given back, and one that never
 * is. A slot that is used again after its call
 * was given up is caught in `shared-memory.test.ts`, where the late row comes at the worst time.
 */
describe('shared memory with a real Triton', () => {
  const dir = mkdtempSync(join(tmpdir(), 'triton-shared-'));
  let triton: RunningTriton;
  let backend: TritonBackend | undefined;

  beforeAll(async () => {
    const model = { datatype: 'INT64', dimension: DIMENSION, maxBatch: 32 } as const;
    writeRepository({
      dir,
      models: [
        { ...model, name: 'right', kind: 'deterministic' },
        { ...model, name: 'slow', kind: 'faulty', faults: { tokens: { slow: SLOW } } },
      ],
    });
    triton = await startTriton({ repository: dir });
  });
  afterAll(async () => {
    await triton.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  afterEach(async () => {
    await backend?.close();
    expect(await regions()).toEqual([]);
    expect(ownFiles()).toEqual([]);
  });

  async function open(model: string, bytes = 1 << 24, timeoutMs = 10_000): Promise<TritonBackend> {
    const options = { urls: [triton.url], model, dimension: DIMENSION, timeoutMs };
    const opened = tritonBackendOn({ ...options, sharedMemory: { mode: 'on', bytes } });
    backend = opened;
    await until('the backend is ready', () => opened.state().isReady);
    return opened;
  }

  /** Names of the regions that Triton knows. */
  async function regions(): Promise<readonly string[]> {
    const reply = await fetch(`${triton.url}/v2/systemsharedmemory/status`);
    return ((await reply.json()) as { name: string }[]).map(({ name }) => name);
  }

  const ownFiles = (): readonly string[] =>
    readdirSync('/dev/shm').filter(
      (name) => name.startsWith('bge-encoder-') && name.includes(`-${process.pid}-`),
    );

  test('rows are right, and stay so until they are given back; slots are used again', async () => {
    const { infer, endpoints } = await open('right');
    expect(endpoints.list()[0]).toMatchObject({ overHttp: '' });
    expect((await regions()).length).toBe(3);
    for (const name of ownFiles())
      expect(statSync(join('/dev/shm', name)).mode & 0o777).toBe(0o600);
    const kept: { ids: Int32Array; row: Float32Array }[] = [];
    const first = { texts: [Int32Array.of(0, 99, 2)], paddedLength: 3, heads: HEADS };
    const lent = await infer(first);
    const names = await regions();
    for (let round = 0; round < 20; round++) {
      const texts = Array.from({ length: 1 + (round % 8) }, (_, at) =>
        Int32Array.of(0, 100 + round, 7 + at, 2),
      );
      const batch = { texts, paddedLength: 4 + (round % 3), heads: HEADS };
      const { dense, giveBack } = await infer(batch);
      expect(giveBack).toBeDefined();
      for (const [at, ids] of texts.entries()) {
        const row = dense?.values(at * DIMENSION, DIMENSION).slice() ?? new Float32Array();
        kept.push({ ids, row });
      }
      giveBack?.();
    }
    const row = lent.dense?.values(0, DIMENSION) ?? new Float32Array();
    kept.push({ ids: first.texts[0], row });
    expect(await regions()).toEqual(names);
    for (const { ids, row } of kept)
      expect(row).toEqual(deterministicEmbedding([...ids], DIMENSION));
  });

  test('a Triton that writes after its call was given up reaches no other caller', async () => {
    const { infer } = await open('slow', 1 << 24, TIMEOUT_MS);
    const before = await regions();
    const late = Int32Array.of(0, SLOW, 2);
    const given = await infer({ texts: [late, late], paddedLength: 3, heads: HEADS }).catch(
      (error: unknown) => error,
    );
    expect(given).toBeInstanceOf(ServerError);
    expect(given).toMatchObject({ code: 'EMB_BACKEND_TIMEOUT' });
    const untilMs = systemClock.now() + 2 * SLOW_MS;
    let rightCount = 0;
    await until('the late row has been written', async () => {
      const texts = [Int32Array.of(0, 10 + (rightCount % 1000), 2), Int32Array.of(0, 9, 2)];
      // Behind a model that sleeps, a call may be given up, too.
      const output = await infer({ texts, paddedLength: 3, heads: HEADS }).catch(() => undefined);
      for (const [row, ids] of texts.entries()) {
        if (output === undefined) break;
        const values = output.dense?.values(row * DIMENSION, DIMENSION);
        expect(values).toEqual(deterministicEmbedding([...ids], DIMENSION));
        rightCount++;
      }
      return systemClock.now() >= untilMs;
    });
    expect(rightCount).toBeGreaterThan(0);
    const after = await regions();
    expect(after.length).toBeLessThanOrEqual(before.length + 8);
    expect(before.filter((name) => after.includes(name)).length).toBeLessThan(before.length);
  });

  test('a Triton that was restarted gets the regions anew', async () => {
    const opened = await open('right');
    const before = await regions();
    expect(opened.modelStarts).toBe(1);
    await triton.restart();
    await until('the backend is ready again', async () => {
      const texts = [Int32Array.of(0, 5, 2)];
      const output = await opened
        .infer({ texts, paddedLength: 3, heads: HEADS })
        .catch(() => undefined);
      if (output === undefined) return false;
      expect(output.dense?.values(0, DIMENSION)).toEqual(
        deterministicEmbedding([0, 5, 2], DIMENSION),
      );
      const now = await regions();
      expect(opened.modelStarts).toBe(2);
      return now.length === 3 && now.every((name) => !before.includes(name));
    });
  });

  test('a batch that no slot holds goes over HTTP', async () => {
    const { infer } = await open('right', 65_536);
    const texts = Array.from({ length: 30 }, (_, at) => Int32Array.of(0, 7 + at, 2));
    const { dense } = await infer({ texts, paddedLength: 3, heads: HEADS });
    expect(dense?.values(29 * DIMENSION, DIMENSION)).toEqual(
      deterministicEmbedding([0, 36, 2], DIMENSION),
    );
  });

  test('regions of a server that was killed are found again, and ours are left alone', async () => {
    const script = `import { createSharedFile } from '${import.meta.dir}/../../backend/triton/shared-files.ts';
      console.log(createSharedFile(4096).name); process.kill(process.pid, 'SIGKILL');`;
    const child = Bun.spawn([process.execPath, '-e', script], { stdout: 'pipe' });
    const left = (await new Response(child.stdout).text()).trim();
    await child.exited;
    expect(readdirSync('/dev/shm')).toContain(left);
    const own = createSharedFile(4096);
    const body = JSON.stringify({ key: `/${left}`, offset: 0, byte_size: 4096 });
    const address = `${triton.url}/v2/systemsharedmemory/region/${left}/register`;
    expect((await fetch(address, { method: 'POST', body })).status).toBe(200);
    await open('right');
    expect(readdirSync('/dev/shm')).not.toContain(left);
    expect(await regions()).not.toContain(left);
    expect(removeLeftBehind()).toEqual([]);
    expect(readdirSync('/dev/shm')).toContain(own.name);
    own.remove();
  });
});
