import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { demand, ExportError } from '../export-error.ts';
import { runCommand } from '../run-command.ts';
import { dockerImageId, dockerTrtexec } from './docker-commands.ts';
import {
  type EngineProfile,
  parseTrtexecHelp,
  planTrtexecArguments,
  trtexecFailure,
} from './trtexec.ts';

/** An engine that was built and not yet judged. */
export interface BuiltEngine {
  readonly tensorrt: string;
  readonly imageId: string;
  readonly gpu: string;
  readonly buildSeconds: number;
}

/** The name of this machine's first GPU, as its driver gives it; undefined when there is none. */
export async function findGpu(): Promise<string | undefined> {
  try {
    const answer = await runCommand(['nvidia-smi', '--query-gpu=name', '--format=csv,noheader']);
    const name = answer.output.split('\n')[0]?.trim();
    return answer.exitCode === 0 && name ? name : undefined;
  } catch {
    return undefined;
  }
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

/** The command that builds an engine, as a person would type it. */
export function describeBuild(options: {
  readonly halfGraph: string;
  readonly plan: string;
  readonly profile: EngineProfile;
  readonly inputs: readonly string[];
}): string {
  // Without an image at hand there is no banner to read: what TensorRT 10 takes, 11 takes without
  // effect.
  const trtexec = parseTrtexecHelp('[TensorRT v101300] --stronglyTyped --noTF32 --skipInference');
  const line = planTrtexecArguments({
    ...options,
    trtexec,
    onnx: options.halfGraph,
    timingCache: '',
  });
  return ['trtexec', ...line].join(' ');
}

/**
 * Builds an engine with the `trtexec` of the image that will serve it.
 *
 * @param options.halfGraph the strongly typed graph; its folder is mounted read-only.
 * @param options.plan where the plan goes; its folder is made.
 * @param options.cacheFolder keeps what later builds on the same GPU need not measure again.
 * @throws ExportError with the first error line of `trtexec` or Docker; the whole output is in a
 * log beside the cache.
 */
export async function buildEngine(options: {
  readonly image: string;
  readonly gpus: string;
  readonly gpu: string;
  readonly halfGraph: string;
  readonly plan: string;
  readonly cacheFolder: string;
  readonly profile: EngineProfile;
  readonly inputs: readonly string[];
  readonly say: (line: string) => void;
  readonly now: () => number;
}): Promise<BuiltEngine> {
  const { image, gpus, say } = options;
  const planFolder = resolve(dirname(options.plan));
  const cacheFolder = resolve(options.cacheFolder);
  await Promise.all([planFolder, cacheFolder].map((path) => mkdir(path, { recursive: true })));
  const inImage = async (trtexecArguments: readonly string[], log: string) => {
    const line = dockerTrtexec({
      image,
      gpus,
      user: `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`,
      volumes: {
        [resolve(dirname(options.halfGraph))]: '/onnx:ro',
        [planFolder]: '/plan',
        [cacheFolder]: '/cache',
      },
      trtexecArguments,
    });
    const result = await runCommand(['docker', ...line]);
    const path = join(cacheFolder, log);
    await writeFile(path, `docker ${line.join(' ')}\n\n${result.output}`);
    if (result.exitCode === 0) return result.output;
    const reason = trtexecFailure(result.output);
    throw new ExportError(
      `trtexec in ${image} failed: ${reason} (all of it: ${path})${adviceFor(result.output)}`,
    );
  };
  const trtexec = parseTrtexecHelp(await inImage(['--help'], 'trtexec-help.log'));
  const imageId = await findImageId(image);
  demand(imageId !== undefined, `Docker does not know the image ${image} that it just ran.`);
  say(`TensorRT ${trtexec.version} on ${options.gpu}: building, which takes 5 to 20 minutes`);
  const started = options.now();
  await rm(options.plan, { force: true });
  const output = await inImage(
    planTrtexecArguments({
      trtexec,
      onnx: '/onnx/model.onnx',
      plan: '/plan/model.plan',
      timingCache: '/cache/timing.cache',
      inputs: options.inputs,
      profile: options.profile,
    }),
    'trtexec-build.log',
  );
  // It has been seen to end well without a plan when the disk was full.
  const bytes = Bun.file(options.plan).size;
  demand(bytes > 0, `trtexec ended well but wrote no plan: ${trtexecFailure(output)}`);
  const buildSeconds = Math.round((options.now() - started) / 1000);
  return { tensorrt: trtexec.version, imageId, gpu: options.gpu, buildSeconds };
}

/**
 * The one failure that a person can do something about here: the profile's largest batch needs too
 * much memory.
 */
function adviceFor(output: string): string {
  if (!/out ?of ?memory|insufficient memory|cudaMalloc|allocat\w+ fail/i.test(output)) return '';
  return '. A smaller max_batch_size in config.pbtxt (or tokenCountMax) needs less.';
}
