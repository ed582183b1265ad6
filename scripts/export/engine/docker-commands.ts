/** Where `trtexec` lies in NVIDIA's images, when it is not on the path. */
const TRTEXEC_FOLDER = '/usr/src/tensorrt/bin';
/** Triton's HTTP port inside the container. */
const HTTP_PORT = 8000;

/** What every container of the export is started with. */
export interface ContainerSettings {
  readonly image: string;
  /** What `docker run --gpus` takes: `all`, `device=0`. */
  readonly gpus: string;
}

/**
 * Arguments of `docker` that run `trtexec` in the image that will serve: a plan runs only under the
 * TensorRT that built it.
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
    ...['run', '--rm', '--gpus', options.gpus, '--user', options.user],
    ...volumeArguments(options.volumes),
    ...['--entrypoint', '/bin/sh', options.image],
    ...['-c', `PATH="$PATH:${TRTEXEC_FOLDER}"; exec trtexec "$@"`, 'trtexec'],
    ...options.trtexecArguments,
  ];
}

/**
 * Arguments of `docker` that serve a model repository on a free port of loopback, until `docker
 * stop`.
 */
export function dockerTriton(
  options: ContainerSettings & { readonly repository: string; readonly model: string },
): string[] {
  return [
    ...['run', '--rm', '--detach', '--gpus', options.gpus],
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

/** Arguments of `docker` that answer the image's content id, which a tag alone does not pin. */
export function dockerImageId(image: string): string[] {
  return ['image', 'inspect', '--format', '{{.Id}}', image];
}

function volumeArguments(volumes: Readonly<Record<string, string>>): string[] {
  return Object.entries(volumes).flatMap(([from, to]) => ['--volume', `${from}:${to}`]);
}
