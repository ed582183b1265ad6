import { statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { demand, ProvisionError } from '../../provision-error.ts';
import { runCommand, runVisibly } from '../../run-command.ts';
import {
  type BuildFolders,
  candidateArguments,
  type EngineRunner,
  LOG_LINE_COUNT,
  type RunningCandidate,
} from './engine-runner.ts';
import { adviceFor, dockerFailure } from './failures.ts';

/** Where `trtexec` lies in NVIDIA's images, when it is not on the path. */
export const TRTEXEC_FOLDER = '/usr/src/tensorrt/bin';
/** Triton's HTTP port inside the container. */
const HTTP_PORT = 8000;
/** The container in which an engine is built. */
const BUILD_CONTAINER = 'bge-m3-export-build';
/** The container that serves a candidate to the fidelity gate. */
const GATE_CONTAINER = 'bge-m3-export-gate';

/** Where a build's folders are inside its container. */
const SEEN_FOLDERS: BuildFolders = { onnx: '/onnx', plan: '/plan', cache: '/cache' };

/** Runs in containers of the image that will serve. */
export function createDockerRunner(settings: ContainerSettings): EngineRunner {
  const { image } = settings;
  const docker = (line: readonly string[]) => runCommand(['docker', ...line]);
  return {
    place: `in ${image}`,
    check: async () => void (await checkDocker()),
    prepare: (say) => ensureImage({ image, say }),
    findImageId: () => findImageId(image),
    async runTrtexec({ folders, line }) {
      const words = dockerTrtexec({
        ...settings,
        user: `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`,
        volumes: folders === undefined ? {} : volumesOf(folders),
        trtexecArguments: line(SEEN_FOLDERS),
      });
      return { ...(await docker(words)), command: `docker ${words.join(' ')}` };
    },
    startTriton: (options) => startInDocker({ ...settings, ...options }),
    clear: async () => void (await docker(dockerRemove(BUILD_CONTAINER, GATE_CONTAINER))),
  };
}

function volumesOf({ onnx, plan, cache }: BuildFolders): Record<string, string> {
  const seen = SEEN_FOLDERS;
  return { [onnx]: `${seen.onnx}:ro`, [plan]: seen.plan, [cache]: seen.cache };
}

async function startInDocker(
  options: ContainerSettings & { readonly repository: string; readonly model: string },
): Promise<RunningCandidate> {
  const docker = (line: readonly string[]) => runCommand(['docker', ...line]);
  const stop = async () => {
    const { output } = await docker(dockerLogs(GATE_CONTAINER));
    await docker(dockerRemove(GATE_CONTAINER));
    return output;
  };
  const line = dockerTriton({ ...options, repository: resolve(options.repository) });
  const { exitCode, output } = await docker(line);
  if (exitCode !== 0) {
    await stop();
    const words = `Docker could not start Triton: ${dockerFailure(output)}`;
    throw new ProvisionError(`${words}${adviceFor(output)}`);
  }
  return {
    findUrl: async () => parseDockerPort((await docker(dockerPort(GATE_CONTAINER))).output),
    isRunning: async () => (await docker(dockerIsRunning(GATE_CONTAINER))).output.trim() === 'true',
    stop,
  };
}

/** What every container of the export is started with. */
interface ContainerSettings {
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
    ...['tritonserver', ...candidateArguments('/models', options.model)],
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
function dockerIsRunning(container: string): string[] {
  return ['inspect', '--format', '{{.State.Running}}', container];
}

/** Arguments of `docker` that answer the end of a container's log. */
function dockerLogs(container: string): string[] {
  return ['logs', '--tail', String(LOG_LINE_COUNT), container];
}

/** Arguments of `docker` that end and remove containers, whatever state they are in. */
function dockerRemove(...containers: readonly string[]): string[] {
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
async function checkDocker(): Promise<string> {
  const { exitCode, output } = await runCommand(['docker', ...dockerRoot()]);
  demand(
    exitCode === 0,
    `The engine is built in Docker, which does not answer: ${dockerFailure(output)}.` +
      `${adviceFor(output)} Or stop before: --graph-only.`,
  );
  return output.trim();
}

/** Docker's id of an image's content; undefined when Docker is not there or has not pulled it. */
async function findImageId(image: string): Promise<string | undefined> {
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
async function ensureImage(options: {
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
