/**
 * `./run.sh export --here --store` as the pods of a fleet run it: inside Triton's image, where
 * there is no Docker, with a folder of engines that all of them share. Each start is a process of
 * its own, and so are its `trtexec` and its Triton.
 *
 * Faults that were planted by hand, and that this suite caught: a store without a lock, one folder
 * for all GPUs, an engine that is taken without its sum, `trtexec` that goes on when the export is
 * killed, downloads for each GPU.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { engineRecordPath, readEngineRecord } from '../../model/engine-record.ts';
import { until } from '../until.ts';
import { createExportFixture, type ExportFixture, HUB_FILES } from './export-fixture.ts';

// Starts of the export, of Triton and of ONNX Runtime, several of them.
setDefaultTimeout(120_000);

let fixture: ExportFixture;
beforeEach(async () => {
  fixture = await createExportFixture({
    isInPlace: true,
    gpus: ['NVIDIA L4, 580.65.06, 8.9', 'NVIDIA T4, 580.65.06, 7.5'],
  });
});
afterEach(() => fixture.close());

interface Start {
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** Starts the export of a pod, whose own folder has this name. */
function start(pod: string, { flags = [], environment = {} }: Start = {}) {
  const store = ['--store', fixture.folder('store'), '--into', fixture.folder(pod)];
  const line = ['--here', '--image', 'triton:1', ...store, ...flags];
  return fixture.start({ flags: line, environment });
}

const planOf = (pod: string) => join(fixture.folder(pod), 'bge_model/1/model.plan');
/** Engines of the store by the names of their folders. */
const shelves = () =>
  readdirSync(fixture.folder('store')).filter((name) => /^nvidia-[\w-]+$/.test(name));
const storedPlan = (index = 0) =>
  join(fixture.folder('store'), shelves()[index] ?? '', 'bge_model/1/model.plan');
const callsOf = (words: string) => fixture.calls().filter((call) => call.join(' ').includes(words));
const builds = () => callsOf('--saveEngine=');
const gates = () => callsOf('tritonserver');
const isBuilding = () => builds().length > 0;

describe('the first pod of a kind', () => {
  test('builds with the programs of its container, proves, keeps, and takes a copy', async () => {
    const { exitCode, errors } = await start('first').ended;
    expect(errors).toMatch(/an engine for NVIDIA L4 is built in \S+: \S+model.plan is not there/);
    expect(errors).toMatch(/gate: dense_vecs: least cosine 0.99999/);
    expect(exitCode).toBe(0);
    const record = await readEngineRecord(planOf('first'));
    expect(record).toMatchObject({
      model: 'small',
      engine: {
        gpu: 'NVIDIA L4',
        image: 'triton:1',
        tensorrt: '10.13.2',
        profiles: '64x64,32x512',
      },
      gate: { passed: true },
    });
    expect(record?.engine.imageId).toBe('TensorRT 101302 b36');
    const into = join(fixture.folder('first'), 'bge_model');
    expect(readdirSync(into).sort()).toEqual(['1', 'config.pbtxt', 'configs']);
    expect(readFileSync(join(into, 'configs/engine.pbtxt'), 'utf8')).toContain('"64x64,32x512"');
    expect(readFileSync(planOf('first'), 'utf8')).toBe(readFileSync(storedPlan(), 'utf8'));
    // What an engine is made of is soon made again; the store's disk is for engines.
    const left = readdirSync(join(fixture.folder('store'), shelves()[0] ?? '', 'small'));
    expect(left.sort()).toEqual(['engine']);
    expect(new Set(fixture.calls().map(([name, device]) => `${name} ${device}`))).toEqual(
      new Set(['trtexec device=0', 'tritonserver device=0']),
    );
  });

  test('falls back to smaller batches for want of memory, and the next one has them', async () => {
    const environment = { FAKE_TOKENS_MAX: '4096' };
    const { exitCode, errors } = await start('first', { environment }).ended;
    expect(errors).toContain('64x64,32x512 is too large for NVIDIA L4: trtexec here failed: [E]');
    expect(exitCode).toBe(0);
    expect((await readEngineRecord(planOf('first')))?.engine.profiles).toBe('64x64,8x512');
    expect((await start('second', { environment }).ended).exitCode).toBe(0);
    expect(builds()).toHaveLength(3);
  });

  test('says no with the figures where nothing fits, and the next one says so at once', async () => {
    const environment = { FAKE_TOKENS_MAX: '1000' };
    const { exitCode, errors } = await start('first', { environment }).ended;
    expect(errors).toContain('No engine fits NVIDIA L4');
    expect(exitCode).toBe(1);
    expect(existsSync(fixture.folder('first'))).toBe(false);
    const count = builds().length;
    const again = await start('second', { environment }).ended;
    expect(again.errors).toContain('was too large before');
    expect(again.exitCode).toBe(1);
    expect(builds()).toHaveLength(count);
  });

  test('tells the log of a Triton that does not load its engine', async () => {
    const environment = { FAKE_TRITON_LOG: 'E0826 09:00:00.1 1 logging.cc:40] "Error Code 1"\n' };
    const { exitCode, errors } = await start('first', { environment }).ended;
    expect(errors).toContain('Triton does not serve the engine: "Error Code 1" (more:');
    expect(exitCode).toBe(1);
  });
});

describe('a pod of a kind that the store has', () => {
  test('takes what is there, and none is built', async () => {
    await start('first').ended;
    const { exitCode, errors } = await start('second').ended;
    expect(errors).toContain('model.plan is for NVIDIA L4');
    expect(exitCode).toBe(0);
    expect(builds()).toHaveLength(1);
    expect(readFileSync(planOf('second'), 'utf8')).toBe(readFileSync(planOf('first'), 'utf8'));
  });

  test.each<[string, (plan: string) => void, string]>([
    [
      'that was damaged',
      // As long as it was.
      (plan) => writeFileSync(plan, readFileSync(plan, 'utf8').replace(/.$/, '?')),
      'its bytes are not those that its record names',
    ],
    [
      'that somebody put there from another GPU',
      (plan) => {
        const path = engineRecordPath(plan);
        writeFileSync(path, readFileSync(path, 'utf8').replace('NVIDIA L4', 'NVIDIA A10'));
      },
      'it was built on "NVIDIA A10", this is "NVIDIA L4"',
    ],
    [
      'of another revision',
      (plan) => {
        const path = engineRecordPath(plan);
        writeFileSync(
          path,
          readFileSync(path, 'utf8').replace(/"revision": "\w+"/, '"revision": "x"'),
        );
      },
      'it was built from revision x, not from c0ffee00',
    ],
  ])('refuses one %s by name, and builds anew', async (_what, spoil, reason) => {
    await start('first').ended;
    spoil(storedPlan());
    const { exitCode, errors } = await start('second').ended;
    expect(errors).toContain(`is built in ${fixture.folder('store')}/${shelves()[0]}: ${reason}`);
    expect(exitCode).toBe(0);
    expect(builds()).toHaveLength(2);
    expect(readFileSync(planOf('second'), 'utf8')).toBe(readFileSync(planOf('first'), 'utf8'));
  });
});

describe('two pods of a kind that start together', () => {
  test('build once: the second waits for the first', async () => {
    const built = fixture.folder('built');
    const first = start('first', { environment: { FAKE_UNTIL: built } });
    await until('the first builds', isBuilding);
    const second = start('second');
    await until('the second waits', () => second.said().includes('is locked'));
    expect(builds()).toHaveLength(1);
    writeFileSync(built, '');
    expect((await first.ended).exitCode).toBe(0);
    const { exitCode, errors } = await second.ended;
    expect(errors).toContain('model.plan was built meanwhile');
    expect(exitCode).toBe(0);
    expect(builds()).toHaveLength(1);
    expect(existsSync(planOf('second'))).toBe(true);
  });

  test('go on when the one that builds is killed: the lock goes with it', async () => {
    const first = start('first', { environment: { FAKE_ENDLESS: 'yes' } });
    await until('the first builds', isBuilding);
    const second = start('second');
    await until('the second waits', () => second.said().includes('is locked'));
    first.kill();
    const { exitCode, errors } = await second.ended;
    // At its step: nothing is downloaded or written again.
    expect(errors).toMatch(/kept \S+onnx\/model.onnx/);
    expect(exitCode).toBe(0);
    expect(builds()).toHaveLength(2);
    expect(existsSync(planOf('first'))).toBe(false);
  });
});

describe('a pod that ends in the middle', () => {
  const trtexecIsGone = () => {
    const id = Number(readFileSync(join(fixture.folder('state'), 'trtexec.pid'), 'utf8'));
    try {
      return !process.kill(id, 0);
    } catch {
      return true;
    }
  };

  test.each([
    ['SIGTERM', 143],
    ['SIGKILL', 137],
  ] as const)(
    'of its build by %s takes trtexec along, and the next goes on',
    async (signal, code) => {
      const first = start('first', { environment: { FAKE_ENDLESS: 'yes' } });
      await until(
        'it builds',
        () => isBuilding() && existsSync(fixture.folder('state/trtexec.pid')),
      );
      first.kill(signal);
      expect((await first.ended).exitCode).toBe(code);
      await until('trtexec is gone', trtexecIsGone);
      const seen = fixture.hub.requests.length;
      const { exitCode, errors } = await start('first').ended;
      expect(errors).toMatch(/kept \S+onnx\/model.onnx/);
      expect(exitCode).toBe(0);
      expect(fixture.hub.requests).toHaveLength(seen);
    },
  );

  test('of the gate is taken up there', async () => {
    const first = start('first');
    await until('the gate has begun', () => gates().length > 0);
    first.kill();
    await first.ended;
    const { exitCode, errors } = await start('first').ended;
    expect(errors).toContain('the engine was built before the export was interrupted');
    expect(exitCode).toBe(0);
    expect(builds()).toHaveLength(1);
  });
});

test('another kind of GPU builds its own at the same time, from the same downloads', async () => {
  const [l4, t4] = [start('l4'), start('t4', { flags: ['--gpu', '1'] })];
  expect([(await l4.ended).exitCode, (await t4.ended).exitCode]).toEqual([0, 0]);
  expect(shelves().map((name) => name.slice(0, 9))).toEqual(['nvidia-l4', 'nvidia-t4']);
  expect((await readEngineRecord(planOf('l4')))?.engine.gpu).toBe('NVIDIA L4');
  expect((await readEngineRecord(planOf('t4')))?.engine.gpu).toBe('NVIDIA T4');
  expect(callsOf('device=1').length).toBeGreaterThan(0);
  expect(fixture.hub.requests).toHaveLength(HUB_FILES.length);
});

test('engines of an upgrade and of a rollback stand side by side', async () => {
  await start('old').ended;
  const environment = { FAKE_TENSORRT: '110100' };
  expect((await start('new', { environment }).ended).exitCode).toBe(0);
  expect((await readEngineRecord(planOf('new')))?.engine.tensorrt).toBe('11.1.0');
  const flags = ['--batch-tokens', '4096'];
  expect((await start('smaller', { flags }).ended).exitCode).toBe(0);
  expect(shelves()).toHaveLength(3);
  expect((await start('old').ended).exitCode).toBe(0);
  expect((await readEngineRecord(planOf('old')))?.engine.tensorrt).toBe('10.13.2');
  expect(builds()).toHaveLength(3);
});

test('where there is no GPU, or no image of Triton around, it is told before any download', async () => {
  const lost = await start('first', { flags: ['--gpu', '7'] }).ended;
  expect(lost.errors).toContain('There is no GPU 7 here: nvidia-smi tells of none.');
  expect(lost.exitCode).toBe(1);
  const outside = await createExportFixture({ gpus: ['NVIDIA L4, 580.65.06, 8.9'] });
  const { exitCode, errors } = await outside.start({ flags: ['--here'] }).ended;
  expect(errors).toContain("inside of Triton's image: no trtexec and no tritonserver here");
  expect(exitCode).toBe(1);
  expect([...fixture.hub.requests, ...outside.hub.requests]).toEqual([]);
  await outside.close();
});

test.each([
  [['--store', 'x'], '--store and --into go together'],
  [['--store', 'x', '--into', 'y', '--check'], '--store takes no --check'],
])('%p is refused', async (flags, words) => {
  const { exitCode, errors } = await fixture.start({ flags }).ended;
  expect(errors).toContain(words);
  expect(exitCode).toBe(2);
});
