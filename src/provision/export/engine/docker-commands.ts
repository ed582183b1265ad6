/** Where `trtexec` lies in NVIDIA's images, when it is not on the path. */
const TRTEXEC_FOLDER = '/usr/src/tensorrt/bin';
/** Triton's HTTP port inside the container. */
const HTTP_PORT = 8000;
/** Enough to hold the first error of a Triton that could not load its only model. */
const LOG_LINE_COUNT = 50;

/** The container in which an engine is built. */
export const BUILD_CONTAINER = 'bge-m3-export-build';
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
 * `dockerRemove`: a container that removed itself would take the log of its failure along.
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
export function dockerImageId(image: string): string[] {
  return ['image', 'inspect', '--format', '{{.Id}}', image];
}

/** Arguments of `docker` that answer where it keeps its images. */
export function dockerRoot(): string[] {
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
