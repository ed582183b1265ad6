import { demand } from '../../provision-error.ts';

/** What a `trtexec` says of itself. */
export interface Trtexec {
  /** As TensorRT writes it: `10.13.2`. */
  readonly version: string;
  readonly major: number;
  /** The options that its help lists, without dashes and values. */
  readonly options: ReadonlySet<string>;
}

/** Batch and length between which an engine runs; `opt` is what its kernels are chosen for. */
export interface EngineProfile {
  readonly min: ProfileShape;
  readonly opt: ProfileShape;
  readonly max: ProfileShape;
}

/** One shape of the inputs, `[textCount, tokenCount]`. */
export interface ProfileShape {
  readonly textCount: number;
  readonly tokenCount: number;
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
 * The profile of an engine: any batch and length up to the limits, tuned for search queries. The
 * least length is two tokens, `<s>` and `</s>`: with one, the multi-vector output would be empty.
 *
 * @param limits the largest batch of config.pbtxt and the longest text of the manifest.
 */
export function planProfile(limits: { batchMax: number; tokensMax: number }): EngineProfile {
  const { batchMax, tokensMax } = limits;
  return {
    min: { textCount: 1, tokenCount: Math.min(2, tokensMax) },
    // Search queries have 3 to 30 tokens and are padded to 32 at most; a batch of eight is what a
    // busy second brings.
    opt: { textCount: Math.min(8, batchMax), tokenCount: Math.min(32, tokensMax) },
    max: { textCount: batchMax, tokenCount: tokensMax },
  };
}

/**
 * Arguments of `trtexec` that build an engine from a strongly typed graph, for the version that
 * will run them.
 *
 * @param options.inputs names of the graph's inputs, all `[batch, sequence]`.
 * @param options.onnx and `plan` and `timingCache` are paths as `trtexec` sees them.
 * @throws ProvisionError when this TensorRT cannot build what the graph says.
 */
export function planTrtexecArguments(options: {
  readonly trtexec: Trtexec;
  readonly onnx: string;
  readonly plan: string;
  readonly timingCache: string;
  readonly inputs: readonly string[];
  readonly profile: EngineProfile;
}): string[] {
  const { trtexec, profile, inputs } = options;
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
    `--minShapes=${shapes(profile.min)}`,
    `--optShapes=${shapes(profile.opt)}`,
    `--maxShapes=${shapes(profile.max)}`,
  ];
  if (trtexec.major < MAJOR_ALWAYS_TYPED) out.push('--stronglyTyped');
  // The products that stay in float32 are those whose last digits matter; TF32 would keep ten bits
  // of them.
  if (has('noTF32')) out.push('--noTF32');
  // A second build on the same GPU takes a fraction of the time.
  if (has('timingCacheFile')) out.push(`--timingCacheFile=${options.timingCache}`);
  // The gate runs the engine better than random inputs would.
  if (has('skipInference')) out.push('--skipInference');
  return out;
}
