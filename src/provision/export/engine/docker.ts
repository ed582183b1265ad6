import { statfs } from 'node:fs/promises';
import { constants } from 'node:os';
import { demand, ProvisionError } from '../../provision-error.ts';
import { runCommand, runVisibly } from '../../run-command.ts';

/** Where `trtexec` lies in NVIDIA's images, when it is not on the path. */
const TRTEXEC_FOLDER = '/usr/src/tensorrt/bin';
/** Triton's HTTP port inside the container. */
const HTTP_PORT = 8000;
/** Enough to hold the first error of a Triton that could not load its only model. */
const LOG_LINE_COUNT = 50;

/** The container in which an engine is built. */
const BUILD_CONTAINER = 'bge-m3-export-build';
/** The container that serves a candidate to the fidelity gate. */
export const GATE_CONTAINER = 'bge-m3-export-gate';

/** What every container of the export is started with. */
export interface ContainerSettings {
  readonly image: string;
  /** The one GPU that it gets: an index or a UUID of `nvidia-smi`. */
  readonly device: string;
}

/**
 * Arguments of `docker` that run `trtexec` in the image that will serve: a plan runs only under the
 * TensorRT that built it. The image's own entrypoint stays in front, since it makes a newer CUDA
 * run on an older driver; what it prints comes before the output of `trtexec`.
 *
 * @param options.volumes folders of this machine by their place in the container; `readonly` ones
 * end in `:ro`.
 * @param options.user `uid:gid`, so that what is written belongs to who runs the export.
 */
export function dockerTrtexec(
  options: ContainerSettings & {
    readonly volumes: Readonly<Record<string, string>>;
    readonly user: string;
    readonly trtexecArguments: readonly string[];
  },
): string[] {
  return [
    ...['run', '--rm', ...containerArguments(BUILD_CONTAINER, options), '--user', options.user],
    ...volumeArguments(options.volumes),
    options.image,
    ...['sh', '-c', `PATH="$PATH:${TRTEXEC_FOLDER}"; exec trtexec "$@"`, 'trtexec'],
    ...options.trtexecArguments,
  ];
}

/**
 * Arguments of `docker` that serve a model repository on a free port of loopback, until
 * `dockerRemove`. With `--rm` the log of a failure would go with the container.
 */
export function dockerTriton(
  options: ContainerSettings & { readonly repository: string; readonly model: string },
): string[] {
  return [
    ...['run', '--detach', ...containerArguments(GATE_CONTAINER, options)],
    ...['--publish', `127.0.0.1::${HTTP_PORT}`],
    ...volumeArguments({ [options.repository]: '/models:ro' }),
    options.image,
    ...[
      'tritonserver',
      '--model-repository=/models',
      '--allow-grpc=false',
      '--allow-metrics=false',
      // It would put a `dynamic_batching` back, which joins batches past their profile.
      '--disable-auto-complete-config',
    ],
    ...['--model-control-mode=explicit', `--load-model=${options.model}`],
  ];
}

/** Arguments of `docker` that ask where a container of `dockerTriton` listens. */
export function dockerPort(container: string): string[] {
  return ['port', container, `${HTTP_PORT}/tcp`];
}

/** The address in the answer to `dockerPort`, which has a line for each network. */
export function parseDockerPort(answer: string): string | undefined {
  const address = /^127\.0\.0\.1:\d+$/m.exec(answer)?.[0];
  return address === undefined ? undefined : `http://${address}`;
}

/** Arguments of `docker` that answer `true` while the container runs. */
export function dockerIsRunning(container: string): string[] {
  return ['inspect', '--format', '{{.State.Running}}', container];
}

/** Arguments of `docker` that answer the end of a container's log. */
export function dockerLogs(container: string): string[] {
  return ['logs', '--tail', String(LOG_LINE_COUNT), container];
}

/** Arguments of `docker` that end and remove containers, whatever state they are in. */
export function dockerRemove(...containers: readonly string[]): string[] {
  return ['rm', '--force', ...containers];
}

/** Arguments of `docker` that answer the image's content id, which a tag alone does not pin. */
function dockerImageId(image: string): string[] {
  return ['image', 'inspect', '--format', '{{.Id}}', image];
}

/** Arguments of `docker` that answer where it keeps its images. */
function dockerRoot(): string[] {
  return ['info', '--format', '{{.DockerRootDir}}'];
}

/**
 * With an init, the program inside ends when it is told to. By its name, the next export finds it.
 */
function containerArguments(name: string, { device }: ContainerSettings): string[] {
  return ['--init', '--name', name, '--gpus', `device=${device}`];
}

function volumeArguments(volumes: Readonly<Record<string, string>>): string[] {
  return Object.entries(volumes).flatMap(([from, to]) => ['--volume', `${from}:${to}`]);
}

/** Of Triton's image with all its backends, 25.08; others are about as large. */
const PULL_GIGABYTES = 8;
const DISK_GIGABYTES = 16;

/**
 * Demands a Docker that answers, before anything is downloaded for it.
 *
 * @returns the folder where it keeps its images.
 * @throws ProvisionError with Docker's own words.
 */
export async function checkDocker(): Promise<string> {
  const { exitCode, output } = await runCommand(['docker', ...dockerRoot()]);
  demand(
    exitCode === 0,
    `The engine is built in Docker, which does not answer: ${dockerFailure(output)}.` +
      `${adviceFor(output)} Or stop before: --graph-only.`,
  );
  return output.trim();
}

/** Docker's id of an image's content; undefined when Docker is not there or has not pulled it. */
export async function findImageId(image: string): Promise<string | undefined> {
  try {
    const answer = await runCommand(['docker', ...dockerImageId(image)]);
    const id = /^sha256:[0-9a-f]{64}$/m.exec(answer.output)?.[0];
    return answer.exitCode === 0 ? id : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Pulls an image that is not there, with Docker's own progress for all to see.
 *
 * @throws ProvisionError
 */
export async function ensureImage(options: {
  readonly image: string;
  readonly say: (line: string) => void;
}): Promise<void> {
  const { image, say } = options;
  if ((await findImageId(image)) !== undefined) return;
  const root = await checkDocker();
  // Docker may be elsewhere, or keep its images in another place than it tells.
  const disk = await statfs(root).catch(() => undefined);
  say(describePull({ image, root, freeBytes: disk && disk.bavail * disk.bsize }));
  const exitCode = await runVisibly(['docker', 'pull', image]);
  demand(exitCode === 0, `docker pull ${image} failed: the lines above say why.`);
}

/** What a pull costs, and whether the disk has that much; no number without `freeBytes`. */
export function describePull(options: {
  readonly image: string;
  readonly root: string;
  readonly freeBytes: number | undefined;
}): string {
  const { image, root, freeBytes } = options;
  const cost = `pulling ${image}: about ${PULL_GIGABYTES} GB, which take ${DISK_GIGABYTES} GB of disk`;
  if (freeBytes === undefined) return cost;
  const free = `${root} has ${(freeBytes / 1e9).toFixed(1)} GB free`;
  return freeBytes < DISK_GIGABYTES * 1e9 ? `${cost}; ${free}: too little` : `${cost}; ${free}`;
}

/**
 * Runs what starts containers, and leaves none of them behind: those of an export that was killed
 * are removed before, its own when it is told to end. Docker keeps a container whose client is
 * gone, and with it the memory of the GPU.
 *
 * @param options.cleanUp removes what else must not stay when a signal ends the export.
 */
export async function withContainers<T>(options: {
  readonly work: () => Promise<T>;
  readonly cleanUp: () => Promise<void>;
}): Promise<T> {
  await removeContainers();
  let ending: Promise<void> | undefined;
  const end = (signal: 'SIGINT' | 'SIGTERM') => {
    ending ??= removeContainers()
      .then(options.cleanUp)
      .finally(() => process.exit(128 + constants.signals[signal]));
  };
  process.on('SIGINT', end).on('SIGTERM', end);
  try {
    return await options.work();
  } finally {
    // The work fails when its container goes: that is not what ended the export.
    await ending;
    process.off('SIGINT', end).off('SIGTERM', end);
  }
}

async function removeContainers(): Promise<void> {
  await runCommand(['docker', ...dockerRemove(BUILD_CONTAINER, GATE_CONTAINER)]);
}

/**
 * A profile's largest batch needs too much memory, has a tensor of more numbers than TensorRT can
 * count, or leaves no kernel that fits.
 */
const OUT_OF_MEMORY =
  /out ?of ?memory|insufficient memory|cudaMalloc|allocat\w+ fail|volume exceeds|could not find any implementation/i;

/** An engine that is too large for this GPU: a smaller one may do. */
export class EngineTooLargeError extends ProvisionError {}

/** The failure of a program that built or loaded an engine, by its output. */
export function engineFailure(words: string, output: string): ProvisionError {
  const message = `${words}${adviceFor(output)}`;
  return OUT_OF_MEMORY.test(output)
    ? new EngineTooLargeError(message)
    : new ProvisionError(message);
}

/** Words of other programs, and what a person can do about them. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  [
    /could not select device driver|unresolvable CDI devices|unknown or invalid runtime name: nvidia/i,
    'Docker has no NVIDIA container toolkit: install nvidia-container-toolkit and restart Docker.',
  ],
  [
    /permission denied.*docker|docker.*permission denied/i,
    'Docker refuses this user: sudo usermod -aG docker $USER, then log in again.',
  ],
  [
    /compatibility mode is UNAVAILABLE|driver version is insufficient/i,
    'The driver is too old for this image: update it, or set TRITON_IMAGE to an older one.',
  ],
  [OUT_OF_MEMORY, 'Fewer tokens a batch (--batch-tokens) or a smaller tokenCountMax need less.'],
];

/** What to do about a failure, as ` A sentence.`; empty when it is not a known one. */
export function adviceFor(output: string): string {
  const advice = ADVICE.find(([words]) => words.test(output))?.[1];
  return advice === undefined ? '' : ` ${advice}`;
}

/**
 * The line of a `docker` call's output that says why it failed: Docker's own words, which are
 * followed by how to get help, or else the last line.
 */
export function dockerFailure(output: string): string {
  const lines = linesOf(output);
  const words = lines.find((line) =>
    /^docker: |Error response from daemon|^permission /.test(line),
  );
  return words ?? lines.at(-1) ?? 'no output';
}

/**
 * The line that says why `trtexec` failed: its first error, or why Docker did not run it, or why
 * the image thinks that nothing can run on this driver.
 */
export function trtexecFailure(output: string): string {
  const lines = linesOf(output);
  const error =
    lines.find((line) => line.includes('[E]')) ??
    lines.find((line) => /^docker: |Error response from daemon/.test(line)) ??
    lines.find((line) => line.startsWith('ERROR: '));
  return (error ?? lines.at(-1) ?? 'no output').replace(/^\[[^\]]*\] /, '');
}

/**
 * The line of Triton's log that says why it does not serve: its first error. What follows only says
 * that the model, then the server, did not start.
 */
export function tritonFailure(log: string): string {
  const lines = linesOf(log);
  const error =
    lines.find((line) => /^E\d{4} /.test(line)) ??
    lines.find((line) => /^(?:ERROR|error): /.test(line));
  // Without the time, the process and the line of Triton's source.
  return (error ?? lines.at(-1) ?? 'no log').replace(/^E\d{4} [\d:.]+ \d+ (?:\S+:\d+\] )?/, '');
}

function linesOf(output: string): string[] {
  return output.split('\n').filter((line) => line.trim() !== '');
}
