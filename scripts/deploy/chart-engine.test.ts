import { afterEach, beforeEach, expect, setDefaultTimeout, test } from 'bun:test';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { readEngineRecord } from '../../src/model/engine-record.ts';
import {
  createExportFixture,
  type ExportFixture,
} from '../../src/testing/export/export-fixture.ts';
import { until } from '../../src/testing/until.ts';
import { CHART_TOOLS } from './chart-programs.ts';
import { CHART } from './chart-schema.ts';

/**
 * Pods that build their engine (`engine.source: build`) or fetch it (`objectStore`), as far as they
 * go without a cluster: the init containers of what helm makes are run one after another, each
 * command as the kubelet would, with folders for volumes and stand-ins for the GPU, `trtexec` and
 * `tritonserver`. Rclone and the store that it reads are real.
 *
 * Faults that were planted by hand, and that this suite caught: a file of the export that is not
 * copied, a claim that each pod has for itself, a flag that the export does not know, an engine
 * that is fetched into another folder than that of Triton.
 */

setDefaultTimeout(120_000);

const ROOT = join(import.meta.dir, '../..');

interface InitContainer {
  readonly name: string;
  readonly resources?: { readonly limits: Readonly<Record<string, unknown>> };
  readonly command?: readonly string[];
  readonly args: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly envFrom?: readonly unknown[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Volume {
  readonly name: string;
  readonly persistentVolumeClaim?: { readonly claimName: string };
}

interface Deployment {
  readonly progressDeadlineSeconds: number;
  readonly template: { readonly spec: Pod };
}

interface Pod {
  readonly initContainers: readonly InitContainer[];
  readonly volumes: readonly Volume[];
}

let fixture: ExportFixture;
let deployment: Deployment;
let pod: Pod;
beforeEach(async () => {
  fixture = await createExportFixture({ isInPlace: true, gpus: ['NVIDIA L4, 580.65.06, 8.9'] });
  writeImage();
  usePod({
    backend: 'sidecar',
    'engine.source': 'build',
    'engine.build.env': [{ name: 'HF_ENDPOINT', value: fixture.hub.url }],
    'settings.MODEL': 'small',
    'models.existingClaim': 'models',
  });
});
afterEach(() => fixture.close());

/** The folder of the image, with what the Dockerfile and .dockerignore let in. */
function writeImage(): void {
  const app = fixture.folder('app');
  mkdirSync(join(app, 'models'), { recursive: true });
  for (const name of ['package.json', 'src']) {
    const filter = (path: string) => !path.includes('/src/testing') && !path.endsWith('.test.ts');
    cpSync(join(ROOT, name), join(app, name), { recursive: true, filter });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(app, 'node_modules'));
  cpSync(fixture.modelsDir, join(app, 'models'), { recursive: true });
}

/** The pod that helm makes of these values. */
function usePod(values: Readonly<Record<string, unknown>>): void {
  const words = Object.entries(values).flatMap(([path, value]) => [
    '--set-json',
    `${path}=${JSON.stringify(value)}`,
  ]);
  const line = ['template', 'fleet', CHART, '--show-only', 'templates/encoder.yaml', ...words];
  const { stdout, exitCode } = Bun.spawnSync([CHART_TOOLS.helm, ...line]);
  expect(exitCode).toBe(0);
  deployment = (Bun.YAML.parse(stdout.toString()) as { spec: Deployment }).spec;
  pod = deployment.template.spec;
}

/** Where a volume of a pod lies: a claim is the same for all pods. */
function folderOf(name: string, podName: string): string {
  const claim = pod.volumes.find((one) => one.name === name)?.persistentVolumeClaim?.claimName;
  if (claim === 'models') return fixture.modelsDir;
  const folder = fixture.folder(claim ?? `${podName}-${name}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Starts a container of a pod; in its words, folders take the place of mounts. */
function startContainer(
  podName: string,
  { command = [], args, env = [], volumeMounts }: InitContainer,
  extra: Readonly<Record<string, string>> = {},
) {
  const mounts = volumeMounts.map(({ name, mountPath }) => [mountPath, folderOf(name, podName)]);
  const places = new Map([...mounts, ['/app', fixture.folder('app')]] as [string, string][]);
  // The longest first, as the kernel does; and no part of a longer word.
  const paths = [...places.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(?<![\\w.])(${paths.join('|')})(?![\\w-])`, 'g');
  // rclone itself is of this machine, and the project may lie below a folder that is a mount there.
  const here = (word: string) =>
    word === CHART_TOOLS.rclone ? word : word.replace(pattern, (path) => places.get(path) ?? path);
  const child = Bun.spawn([...command, ...args].map(here), {
    cwd: '/',
    env: {
      ...fixture.environment,
      ...Object.fromEntries(env.map(({ name, value }) => [name, value])),
      HOME: '/nonexistent',
      TMPDIR: folderOf('tmp', podName),
      ...extra,
    },
    stdout: 'ignore',
    stderr: 'pipe',
  });
  let said = '';
  const read = (async () => {
    const decoder = new TextDecoder();
    for await (const piece of child.stderr) said += decoder.decode(piece, { stream: true });
  })();
  return {
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    said: () => said,
    ended: Promise.all([child.exited, read]).then(([exitCode]) => exitCode),
  };
}

function container(name: string): InitContainer {
  const found = pod.initContainers.find((one) => one.name === name);
  if (found === undefined) throw new Error(`The pod has no container ${name}.`);
  return found;
}

/** A pod up to the container that builds, which runs. */
async function startPod(podName: string, extra: Readonly<Record<string, string>> = {}) {
  const copy = startContainer(podName, container('copy-export'));
  expect([await copy.ended, copy.said()]).toEqual([0, '']);
  return startContainer(podName, container('build-engine'), extra);
}

const builds = () => fixture.calls().filter((call) => call.join().includes('--saveEngine='));

test('the containers come in their order, before Triton, which reads what they leave', () => {
  const names = pod.initContainers.map(({ name }) => name);
  expect(names).toEqual(['copy-export', 'build-engine', 'triton']);
  expect(container('build-engine').resources?.limits).toMatchObject({ 'nvidia.com/gpu': 1 });
  // A rollout is not called stuck while it builds: its time, Triton's and the encoder's.
  expect(deployment.progressDeadlineSeconds).toBe(300 + 120 + 600 + 7200);
});

test('two pods of a kind build once, and each has its engine where its Triton looks', async () => {
  const built = fixture.folder('built');
  const first = await startPod('first', { FAKE_UNTIL: built });
  await until('the first builds', () => builds().length === 1);
  const second = await startPod('second');
  await until('the second waits', () => second.said().includes('is locked'));
  await Bun.write(built, '');
  expect([await first.ended, await second.ended]).toEqual([0, 0]);
  expect(builds()).toHaveLength(1);
  for (const podName of ['first', 'second']) {
    const folder = join(folderOf('engine', podName), 'bge_model');
    const record = await readEngineRecord(join(folder, '1/model.plan'));
    expect(record).toMatchObject({ model: 'small', gate: { passed: true } });
    expect(readdirSync(folder).sort()).toEqual(['1', 'config.pbtxt', 'configs']);
  }
  // Slices of a GPU have other resources, and so a store of their own.
  expect(readdirSync(fixture.folder('fleet-bge-m3-encoder-engines'))).toEqual(['nvidia.com-gpu']);
});

test('a pod that is deleted while it builds leaves no trtexec, and the next goes on', async () => {
  const first = await startPod('first', { FAKE_ENDLESS: 'yes' });
  const pid = join(fixture.folder('state'), 'trtexec.pid');
  await until('it builds', () => builds().length === 1 && existsSync(pid));
  first.kill('SIGTERM');
  expect(await first.ended).toBe(143);
  const isAlive = () => existsSync(`/proc/${readFileSync(pid, 'utf8')}`);
  await until('trtexec is gone', () => !isAlive());
  const second = await startPod('second');
  expect(await second.ended).toBe(0);
  expect(second.said()).toContain('kept ');
});

test('an engine of an object store comes where Triton looks, and a wrong key is told', async () => {
  usePod({
    backend: 'sidecar',
    'engine.source': 'objectStore',
    'engine.objectStore.envFromSecret': 'store',
  });
  expect(pod.initContainers.map(({ name }) => name)).toEqual(['fetch-engine', 'triton']);
  const bucket = join(fixture.folder('buckets'), 'models/bge_model');
  await Bun.write(join(bucket, '1/model.plan'), 'an engine');
  await Bun.write(join(bucket, '1/model.plan.json'), '{}');
  await Bun.write(join(bucket, 'configs/engine.pbtxt'), 'a configuration');
  const log = fixture.folder('store.log');
  await Bun.write(log, '');
  const store = Bun.spawn(
    [
      ...[
        CHART_TOOLS.rclone,
        'serve',
        's3',
        '--addr',
        '127.0.0.1:0',
        '--auth-key',
        'reader,secret',
      ],
      fixture.folder('buckets'),
    ],
    { stdout: 'ignore', stderr: Bun.file(log) },
  );
  try {
    await until('the store tells its address', () => readFileSync(log, 'utf8').includes('http://'));
    const [url = ''] = /http:[/.:\d]+/.exec(readFileSync(log, 'utf8')) ?? [];
    // The image's entrypoint, and what its Secret holds.
    const fetchEngine = { ...container('fetch-engine'), command: [CHART_TOOLS.rclone] };
    expect(fetchEngine.envFrom).toEqual([{ secretRef: { name: 'store' } }]);
    const secret = {
      RCLONE_S3_PROVIDER: 'Rclone',
      RCLONE_S3_ENDPOINT: url,
      RCLONE_S3_ACCESS_KEY_ID: 'reader',
    };
    const wrong = { ...secret, RCLONE_S3_SECRET_ACCESS_KEY: 'another' };
    const refused = startContainer('first', fetchEngine, wrong);
    expect(await refused.ended).not.toBe(0);
    expect(refused.said()).toContain('Forbidden');
    const right = { ...secret, RCLONE_S3_SECRET_ACCESS_KEY: 'secret' };
    const fetched = startContainer('first', fetchEngine, right);
    expect([await fetched.ended, fetched.said()]).toEqual([0, expect.any(String)]);
    const folder = join(folderOf('engine', 'first'), 'bge_model');
    expect(readFileSync(join(folder, '1/model.plan'), 'utf8')).toBe('an engine');
    expect(readdirSync(folder).sort()).toEqual(['1', 'configs']);
    // Again in the same pod: nothing to do is no fault.
    expect(await startContainer('first', fetchEngine, right).ended).toBe(0);
  } finally {
    store.kill();
    await store.exited;
  }
});
