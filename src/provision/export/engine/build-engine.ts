import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../../../base/clock.ts';
import { demand, ProvisionError } from '../../provision-error.ts';
import { runCommand } from '../../run-command.ts';
import { sayWhile } from '../progress.ts';
import { dockerTrtexec } from './docker-commands.ts';
import { ensureImage, findImageId } from './docker-image.ts';
import { adviceFor, trtexecFailure } from './failure.ts';
import { type EngineProfile, parseTrtexecHelp, planTrtexecArguments } from './trtexec.ts';

/** An engine that was built and not yet judged. */
export interface BuiltEngine {
  readonly tensorrt: string;
  readonly imageId: string;
  readonly gpu: string;
  readonly buildSeconds: number;
}

/**
 * Builds an engine with the `trtexec` of the image that will serve it.
 *
 * @param options.halfGraph the strongly typed graph; its folder is mounted read-only.
 * @param options.plan where the plan goes; its folder is made.
 * @param options.cacheFolder keeps what later builds on the same GPU need not measure again.
 * @throws ProvisionError with the first error line of `trtexec` or Docker; the whole output is in a
 * log beside the cache.
 */
export async function buildEngine(options: {
  readonly image: string;
  readonly device: string;
  readonly gpu: string;
  readonly halfGraph: string;
  readonly plan: string;
  readonly cacheFolder: string;
  readonly profile: EngineProfile;
  readonly inputs: readonly string[];
  readonly say: (line: string) => void;
  readonly clock: Clock;
}): Promise<BuiltEngine> {
  const { image, device, clock, say } = options;
  const planFolder = resolve(dirname(options.plan));
  const cacheFolder = resolve(options.cacheFolder);
  await Promise.all([planFolder, cacheFolder].map((path) => mkdir(path, { recursive: true })));
  const inImage = async (trtexecArguments: readonly string[], log: string) => {
    const line = dockerTrtexec({
      image,
      device,
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
    throw new ProvisionError(
      `trtexec in ${image} failed: ${reason} (all of it: ${path}).${adviceFor(result.output)}`,
    );
  };
  await ensureImage({ image, say });
  const trtexec = parseTrtexecHelp(await inImage(['--help'], 'trtexec-help.log'));
  const imageId = await findImageId(image);
  demand(imageId !== undefined, `Docker does not know the image ${image} that it just ran.`);
  say(`TensorRT ${trtexec.version} on ${options.gpu}: building, which takes 5 to 20 minutes`);
  const startedAt = clock.now();
  await rm(options.plan, { force: true });
  const line = planTrtexecArguments({
    trtexec,
    onnx: '/onnx/model.onnx',
    plan: '/plan/model.plan',
    timingCache: '/cache/timing.cache',
    inputs: options.inputs,
    profile: options.profile,
  });
  const output = await sayWhile({ clock, say, words: 'building' }, () =>
    inImage(line, 'trtexec-build.log'),
  );
  // It has been seen to end well without a plan when the disk was full.
  const bytes = Bun.file(options.plan).size;
  demand(bytes > 0, `trtexec ended well but wrote no plan: ${trtexecFailure(output)}`);
  const buildSeconds = Math.round((clock.now() - startedAt) / 1000);
  return { tensorrt: trtexec.version, imageId, gpu: options.gpu, buildSeconds };
}
