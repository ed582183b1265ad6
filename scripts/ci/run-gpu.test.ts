/**
 * run.sh where there is a GPU, or half of what it takes to use one: which backend it chooses and
 * why, what it asks of Docker, and in which order it builds and serves.
 */
import { afterAll, describe, expect, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandsOf, createRunHarness, type RunHarness, removeRunFolders } from './run-harness.ts';

afterAll(removeRunFolders);

const UP = 'docker compose up --detach --build --wait --wait-timeout 900';
const DENIED =
  'permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock';
const MEND = 'sudo usermod -aG docker $USER, then log in again';

/** Puts a program in front of the harness's, or in the place of one that it has. */
function addProgram(harness: RunHarness, name: string, body: string): void {
  writeFileSync(join(harness.stubs, name), `#!/bin/bash\n${body}\n`, { mode: 0o755 });
}

/** A GPU, Docker with Compose, and the container toolkit. */
function harnessWithGpu(): RunHarness {
  const harness = createRunHarness('bun', 'docker', 'nvidia-smi');
  addProgram(harness, 'nvidia-ctk', 'exit 0');
  return harness;
}

/** A harness on which `docker info` says this and ends so. */
function harnessWithDockerInfo(words: string, status = 0): RunHarness {
  const harness = createRunHarness('bun', 'nvidia-smi', 'docker');
  const answer = `if [ "$1" = info ]; then echo "${words}" >&2; exit ${status}; fi`;
  addProgram(harness, 'docker', `echo "docker $* [$MODEL]" >>"$CALLS"\n${answer}`);
  return harness;
}

/** A harness whose Docker answers `docker compose version` and `docker buildx version` so. */
function harnessWithPlugins(compose: string, buildx: string): RunHarness {
  const harness = harnessWithGpu();
  const answer = `case "$1 $2" in
    'compose version') echo "${compose}" ;;
    'buildx version') ${buildx === '' ? 'exit 1' : `echo "${buildx}"`} ;;
  esac`;
  addProgram(harness, 'docker', `echo "docker $* [$MODEL]" >>"$CALLS"\n${answer}`);
  return harness;
}

const backendOf = async (harness: RunHarness, env: Readonly<Record<string, string>> = {}) =>
  (await harness.run([], env)).said[0]?.replace('run.sh: backend ', '');

test.each([
  ['embedded (no NVIDIA GPU)', ['bun', 'docker'], {}],
  ['embedded (an NVIDIA GPU, but no running Docker)', ['bun', 'nvidia-smi'], {}],
  [
    'embedded (an NVIDIA GPU, but no running Docker)',
    ['bun', 'nvidia-smi', 'docker'],
    { FAIL: 'info' },
  ],
  [
    'embedded (an NVIDIA GPU and Docker, but no NVIDIA container toolkit:' +
      ' install nvidia-container-toolkit and restart Docker)',
    ['bun', 'nvidia-smi', 'docker'],
    {},
  ],
  ['triton (TRITON_URL is set)', ['bun'], { TRITON_URL: 'http://a' }],
  ['triton (as asked)', ['bun', 'docker'], { BACKEND: 'triton' }],
  ['embedded (as asked)', ['bun', 'nvidia-smi', 'docker'], { BACKEND: 'embedded' }],
  ['embedded (no NVIDIA GPU)', ['bun'], { BACKEND: 'auto', TRITON_URL: '' }],
] as const)('backend %s with %p and %p', async (backend, programs, env) => {
  const model = backend.startsWith('triton') ? 'bge-m3' : 'multilingual-e5-small';
  expect(await backendOf(createRunHarness(...programs), env)).toBe(`${backend}, model ${model}`);
});

describe('the container toolkit is known', () => {
  test.each(['nvidia-ctk', 'nvidia-container-runtime-hook'])('by its %s', async (name) => {
    const harness = createRunHarness('bun', 'docker', 'nvidia-smi');
    addProgram(harness, name, 'exit 0');
    expect(await backendOf(harness)).toBe('triton (an NVIDIA GPU and Docker), model bge-m3');
  });

  test.each([
    ['triton', ' Runtimes: io.containerd.runc.v2 nvidia runc'],
    ['triton', ' Discovered Devices:\n  cdi: nvidia.com/gpu=0'],
    ['embedded', ' Runtimes: io.containerd.runc.v2 runc\n Name: nvidia-box'],
  ])('%s, by the answer of Docker: %p', async (backend, answer) => {
    expect(await backendOf(harnessWithDockerInfo(answer))).toStartWith(backend);
  });
});

describe('a GPU that TensorRT no longer knows', () => {
  const harnessWithOldGpu = (capability: string) => {
    const harness = harnessWithGpu();
    const answer = `case "$*" in *compute_cap*) [ "$2" = 1 ] || echo ${capability} ;; esac`;
    addProgram(harness, 'nvidia-smi', answer);
    return harness;
  };

  test('leaves the embedded backend, with the reason', async () => {
    expect(await backendOf(harnessWithOldGpu('7.0'))).toStartWith(
      'embedded (an NVIDIA GPU of compute capability 7.0, but TensorRT needs 7.5)',
    );
  });

  test.each([
    ['7.5', {}],
    ['12.0', {}],
    ['7.0', { TRITON_IMAGE: 'nvcr.io/nvidia/tritonserver:24.08-py3' }],
    ['7.0', { TRITON_GPU: '1' }],
  ])('is not one of %s with %p', async (capability, env) => {
    expect(await backendOf(harnessWithOldGpu(capability), env)).toStartWith(
      'triton (an NVIDIA GPU',
    );
  });
});

test('a Docker that refuses this user is told apart from one that does not run', async () => {
  const harness = harnessWithDockerInfo(DENIED, 1);
  expect(await backendOf(harness)).toStartWith(
    `embedded (an NVIDIA GPU, but no permission to use Docker: ${MEND})`,
  );
  const asked = await harness.run([], { BACKEND: 'triton' });
  expect(asked.status).toBe(14);
  expect(asked.said.at(-1)).toBe(
    `run.sh: the triton backend needs Docker, but there is no permission to use Docker: ${MEND}.`,
  );
});

test.each([
  ['no running Docker', ['bun'], {}, 'needs a running Docker'],
  ['no Compose', ['bun', 'docker'], { FAIL: 'compose version' }, 'Docker has no Compose'],
  ['no buildx', ['bun', 'docker'], { FAIL: 'buildx' }, 'package docker-buildx of Ubuntu'],
  ['a stop that fails', ['bun', 'docker'], { FAIL: 'compose stop' }, 'could not stop what serves'],
  ['a failed start', ['bun', 'docker'], { FAIL: 'compose up' }, 'docker compose logs says why'],
] as const)('%s ends it with status 14 and one line', async (_what, programs, env, words) => {
  const outcome = await createRunHarness(...programs).run([], { ...env, BACKEND: 'triton' });
  expect(outcome.said.filter((line) => line.includes(words))).toHaveLength(1);
  expect(outcome.said.at(-1)).toContain(words);
  expect(outcome.status).toBe(14);
  expect(commandsOf(outcome)).not.toContain('bun src/main.ts');
});

test.each([
  ['2.40.3', 'github.com/docker/buildx v0.16.2 34c195f', 14],
  ['2.40.3', 'github.com/docker/buildx v0.17.0 34c195f', 0],
  ['5.0.1', 'github.com/docker/buildx v1.2.0 34c195f', 0],
  ['v5.0.1', '', 14],
  // It has a builder of its own.
  ['2.27.0', '', 0],
])('Compose %s with buildx %p: exit status %p', async (compose, buildx, status) => {
  const outcome = await harnessWithPlugins(compose, buildx).run([]);
  expect(outcome.status).toBe(status);
  if (status !== 0) expect(outcome.said.at(-1)).toContain('buildx 0.17 or later');
});

test('a missing engine is built on a free GPU, and new containers load it', async () => {
  const harness = harnessWithGpu();
  const first = await harness.run([]);
  expect(first.status).toBe(0);
  expect(commandsOf(first).slice(-4)).toEqual([
    'bun src/provision/export.ts --check --model bge-m3',
    'docker compose stop',
    'bun src/provision/export.ts --model bge-m3',
    `${UP} --force-recreate`,
  ]);
  expect(first.calls.at(-1)).toEndWith(' [bge-m3]');
  expect(first.said.at(-1)).toContain('docker compose logs -f; stop: docker compose down');
});

test('an engine that is current is served without a stop', async () => {
  const harness = harnessWithGpu();
  writeFileSync(join(harness.folder, 'models/bge_model/1/model.plan'), 'plan');
  const commands = commandsOf(await harness.run([]));
  expect(commands).not.toContain('bun src/provision/export.ts --model bge-m3');
  expect(commands).not.toContain('docker compose stop');
  expect(commands.at(-1)).toBe(UP);
});

test('exit status 15 when the export fails, which says why itself', async () => {
  expect((await harnessWithGpu().run([], { FAIL: 'export.ts --model' })).status).toBe(15);
});

describe('two exports at once would end the containers of each other', () => {
  /** The harness's Bun, which notes whether run.sh's lock is held while it exports. */
  const harnessWithLock = () => {
    const harness = harnessWithGpu();
    const note = `[[ "$*" != *export.ts* ]] ||
      if flock -n .tools/lock cat </dev/null; then echo "free: $*"; else echo "held: $*"; fi >>"$CALLS"`;
    addProgram(harness, 'bun', `${note}\nexec "$STUBS/bun-program" "$@"`);
    return harness;
  };

  test.each([
    [
      [],
      [
        'held: src/provision/export.ts --check --model bge-m3',
        'held: src/provision/export.ts --model bge-m3',
      ],
    ],
    [['export', '--check'], ['held: src/provision/export.ts --check']],
    [['export', '--help'], ['free: src/provision/export.ts --help']],
  ])('%p runs them so: %p', async (args, expected) => {
    const harness = harnessWithLock();
    // What is installed already takes no lock.
    await harness.run(['export']);
    const { calls } = await harness.run(args);
    expect(calls.filter((call) => /^(?:held|free): /.test(call))).toEqual(expected);
  });

  test('the lock is free again once Compose brings the containers up', async () => {
    const harness = harnessWithGpu();
    addProgram(
      harness,
      'docker',
      '[ "$2" != up ] || if flock -n .tools/lock cat </dev/null; then echo free; else echo held; fi >>"$CALLS"',
    );
    expect((await harness.run([])).calls.at(-1)).toBe('free');
  });
});
