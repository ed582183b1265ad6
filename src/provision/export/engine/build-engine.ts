import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../../../base/clock.ts';
import { type ProfileShape, profileRanges } from '../../../model/engine-profiles.ts';
import { demand } from '../../provision-error.ts';
import type { AttentionPrecision } from '../graph/attention.ts';
import { sayWhile } from '../progress.ts';
import type { EngineRunner, TrtexecCall } from './engine-runner.ts';
import { engineFailure, trtexecFailure } from './failures.ts';
import { type AttentionKernels, readAttentionOf } from './layer-info.ts';

/** An engine that was built and not yet judged. */
export interface BuiltEngine {
  readonly tensorrt: string;
  readonly imageId: string;
  readonly gpu: string;
  readonly attention: AttentionKernels;
  readonly buildSeconds: number;
}

/** What `trtexec` says of the layers that it built. */
const LAYER_INFO = 'layers.json';

/** The `trtexec` of an image. */
export interface TrtexecImage {
  readonly trtexec: Trtexec;
  readonly imageId: string;
}

/** Where `trtexec` runs. */
interface TrtexecPlace {
  readonly runner: EngineRunner;
  /** Logs, and what later builds on the same GPU need not measure again. */
  readonly cacheFolder: string;
}

/**
 * Asks an image for its `trtexec`, once it is there.
 *
 * @throws ProvisionError
 */
export async function askTrtexec(
  place: TrtexecPlace & { readonly say: (line: string) => void },
): Promise<TrtexecImage> {
  const { runner, say } = place;
  await mkdir(place.cacheFolder, { recursive: true });
  await runner.prepare(say);
  const help = await runTrtexec(place, 'trtexec-help.log', { line: () => ['--help'] });
  const imageId = await runner.findImageId();
  demand(imageId !== undefined, `The trtexec ${runner.place} ran, and is not there any more.`);
  return { trtexec: parseTrtexecHelp(help), imageId };
}

/**
 * Builds an engine with the `trtexec` of the image that will serve it.
 *
 * @param options.halfGraph the strongly typed graph, in a folder of its own.
 * @param options.plan where the plan goes; its folder is made.
 * @throws EngineTooLargeError, ProvisionError with the first error line of `trtexec` or Docker; the
 * whole output is in a log beside the cache.
 */
export async function buildEngine(
  options: TrtexecPlace &
    TrtexecImage & {
      readonly gpu: string;
      readonly halfGraph: string;
      readonly attention: AttentionPrecision;
      readonly plan: string;
      readonly profiles: readonly ProfileShape[];
      readonly inputs: readonly string[];
      readonly say: (line: string) => void;
      readonly clock: Clock;
    },
): Promise<BuiltEngine> {
  const { trtexec, imageId, gpu, clock, say } = options;
  const folders = {
    onnx: resolve(dirname(options.halfGraph)),
    plan: resolve(dirname(options.plan)),
    cache: resolve(options.cacheFolder),
  };
  const layerInfo = join(folders.cache, LAYER_INFO);
  await mkdir(folders.plan, { recursive: true });
  await Promise.all([options.plan, layerInfo].map((path) => rm(path, { force: true })));
  say(`TensorRT ${trtexec.version} on ${gpu}: building, which takes minutes`);
  const startedAt = clock.now();
  const line: TrtexecCall['line'] = (seen) =>
    planTrtexecArguments({
      trtexec,
      onnx: join(seen.onnx, 'model.onnx'),
      plan: join(seen.plan, 'model.plan'),
      timingCache: join(seen.cache, 'timing.cache'),
      inputs: options.inputs,
      profiles: options.profiles,
      layerInfo: join(seen.cache, LAYER_INFO),
    });
  const output = await sayWhile({ clock, say, words: 'building' }, () =>
    runTrtexec(options, 'trtexec-build.log', { folders, line }),
  );
  // It has been seen to end well without a plan when the disk was full.
  const bytes = Bun.file(options.plan).size;
  demand(bytes > 0, `trtexec ended well but wrote no plan: ${trtexecFailure(output)}`);
  const buildSeconds = Math.round((clock.now() - startedAt) / 1000);
  const attention = await readAttentionOf(layerInfo, options.attention);
  return { tensorrt: trtexec.version, imageId, gpu, attention, buildSeconds };
}

/** @returns its output. */
async function runTrtexec(
  { runner, cacheFolder }: TrtexecPlace,
  log: string,
  call: TrtexecCall,
): Promise<string> {
  const { command, output, exitCode } = await runner.runTrtexec(call);
  const path = join(cacheFolder, log);
  await writeFile(path, `${command}\n\n${output}`);
  if (exitCode === 0) return output;
  const reason = trtexecFailure(output);
  throw engineFailure(`trtexec ${runner.place} failed: ${reason} (all of it: ${path}).`, output);
}

/** What a `trtexec` says of itself. */
export interface Trtexec {
  /** As TensorRT writes it: `10.13.2`. */
  readonly version: string;
  readonly major: number;
  /** The options that its help lists, without dashes and values. */
  readonly options: ReadonlySet<string>;
}

/** The first TensorRT that takes int64 inputs as they are. */
const MAJOR_MIN = 10;
/**
 * From this one on every network is strongly typed, and the option for it is gone or without
 * effect.
 */
const MAJOR_ALWAYS_TYPED = 11;

/**
 * Reads the help of `trtexec`, which begins with the banner that has the version: `--version` wants
 * a model, and fails without one. What the image prints before the banner is not read.
 *
 * @throws ProvisionError when there is no banner, or TensorRT is too old.
 */
export function parseTrtexecHelp(help: string): Trtexec {
  const found = /\[TensorRT v([\d.]+)\]/.exec(help);
  const banner = found?.[1];
  demand(banner !== undefined, `trtexec printed no version: "${help.trim().slice(-200)}".`);
  const [major, minor, patch] = banner.includes('.')
    ? banner.split('.').map(Number)
    : packedVersion(Number(banner));
  const version = `${major}.${minor}.${patch}`;
  demand(
    major !== undefined && major >= MAJOR_MIN,
    `TensorRT ${version} is too old: ${MAJOR_MIN} or later is needed. Take a newer Triton image.`,
  );
  const listed = help.slice(found?.index);
  const options = new Set(
    Array.from(listed.matchAll(/--([A-Za-z]\w+)/g), (match) => match[1] ?? ''),
  );
  return { version, major, options };
}

/** `101302` is 10.13.2; before version 10 two digits fewer: `8602` is 8.6.2. */
function packedVersion(packed: number): [number, number, number] {
  const base = packed >= 10_000 ? 10_000 : 1_000;
  return [Math.floor(packed / base), Math.floor(packed / 100) % (base / 100), packed % 100];
}

/**
 * Arguments of `trtexec` that build an engine from a strongly typed graph, for the version that
 * will run them.
 *
 * @param options.inputs names of the graph's inputs, all `[batch, sequence]`.
 * @param options.onnx and `plan`, `timingCache` and `layerInfo` are paths as `trtexec` sees them.
 * @throws ProvisionError when this TensorRT cannot build what the graph says.
 */
export function planTrtexecArguments(options: {
  readonly trtexec: Trtexec;
  readonly onnx: string;
  readonly plan: string;
  readonly timingCache: string;
  readonly layerInfo: string;
  readonly inputs: readonly string[];
  readonly profiles: readonly ProfileShape[];
}): string[] {
  const { trtexec, inputs } = options;
  const has = (option: string) => trtexec.options.has(option);
  demand(
    trtexec.major >= MAJOR_ALWAYS_TYPED || has('stronglyTyped'),
    `TensorRT ${trtexec.version} has no --stronglyTyped: it would ignore the graph's precision.`,
  );
  const shapes = (shape: ProfileShape) =>
    inputs.map((name) => `${name}:${shape.textCount}x${shape.tokenCount}`).join(',');
  const out = [
    `--onnx=${options.onnx}`,
    `--saveEngine=${options.plan}`,
    // Each profile's shapes must follow its number, and numbers must not leave one out.
    ...profileRanges(options.profiles).flatMap(({ min, opt, max }, index) => [
      `--profile=${index}`,
      `--minShapes=${shapes(min)}`,
      `--optShapes=${shapes(opt)}`,
      `--maxShapes=${shapes(max)}`,
    ]),
  ];
  if (trtexec.major < MAJOR_ALWAYS_TYPED) out.push('--stronglyTyped');
  // The products that stay in float32 are those whose last digits matter; TF32 would keep ten bits
  // of them.
  if (has('noTF32')) out.push('--noTF32');
  // A second build on the same GPU takes a fraction of the time.
  if (has('timingCacheFile')) out.push(`--timingCacheFile=${options.timingCache}`);
  // Names alone do not tell which kernels a fused layer has; the file is written without inference.
  if (has('profilingVerbosity') && has('exportLayerInfo')) {
    out.push('--profilingVerbosity=detailed', `--exportLayerInfo=${options.layerInfo}`);
  }
  // The gate runs the engine better than random inputs would.
  if (has('skipInference')) out.push('--skipInference');
  return out;
}
