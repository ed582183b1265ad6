import { formatProfiles, type ProfileShape } from '../../../model/engine-profiles.ts';
import { ProvisionError } from '../../provision-error.ts';

/**
 * Memory of an engine before it is built, and which profiles fit a GPU. All of it is reckoned: the
 * sizes are those of XLM-RoBERTa large, the bytes a token those of TensorRT's buffers as the
 * operators need them. A plan that does not fit after all falls back while it is built.
 */

/** What the memory of a model depends on. */
export interface EngineModel {
  /** Weights in float16. */
  readonly weightBytes: number;
  /** Width of a layer, and of a row. */
  readonly dimension: number;
}

/** Bytes on the GPU, while it is built and while it serves. */
export interface EngineMemory {
  /** Of each profile's context. */
  readonly contextBytes: readonly number[];
  readonly weightBytes: number;
  /** Input and output buffers, which Triton allocates once for the largest profile. */
  readonly bufferBytes: number;
  readonly servingBytes: number;
  readonly buildingBytes: number;
}

/** Profiles that fit, and what they take. */
export interface FittingPlan {
  readonly profiles: readonly ProfileShape[];
  readonly memory: EngineMemory;
}

/** Parameters of BGE-M3: tables 268 M, layers 302 M; two bytes each. */
const BGE_M3_WEIGHT_BYTES = 2 * 568e6;
const BGE_M3_DIMENSION = 1_024;
const HEAD_DIMENSION = 64;

/**
 * Bytes a padded token and unit of width: the wide product and its activation (2 × 4 in float16),
 * the residual and its sum (2 × 4), Q, K and V (3 × 2), and the context (2); and the multi-vector
 * head in float32 before and after its norm (2 × 4).
 */
const TOKEN_BYTES = 24 + 8;
/**
 * Bytes a score where attention is not fused: float16, float32 before and after softmax. Buffers
 * that end where others begin are shared, so it may be 6.
 */
const SCORE_BYTES = 10;
/** A CUDA context with its kernels takes 0.3 to 0.6 GB. */
const CUDA_BYTES = 0.6e9;
/** The builder holds the weights as it read them, as it arranges them, and as they are written. */
const BUILD_WEIGHT_COPIES = 3;
/** What the reckoning may be wrong by. */
const USABLE_SHARE = 0.95;

/** Halving ends here: smaller batches would leave the GPU idle between two launches. */
const FALLBACK_TOKENS_MIN = 4_096;

/** BGE-M3, or a model of its kind. */
export function engineModelOf(
  dimension: number,
  weightBytes = BGE_M3_WEIGHT_BYTES * (dimension / BGE_M3_DIMENSION),
): EngineModel {
  return { dimension, weightBytes };
}

/**
 * Reckons the memory of an engine with these profiles. Each has a context of its own, sized for
 * itself (ON_PROFILE_CHANGE).
 *
 * @param options.isFused whether attention is one kernel, which keeps no scores in memory.
 */
export function reckonMemory(options: {
  readonly model: EngineModel;
  readonly profiles: readonly ProfileShape[];
  readonly isFused: boolean;
}): EngineMemory {
  const { model, profiles, isFused } = options;
  const { dimension, weightBytes } = model;
  const heads = Math.max(1, dimension / HEAD_DIMENSION);
  const contextBytes = profiles.map(({ textCount, tokenCount }) => {
    const tokenBytes = textCount * tokenCount * TOKEN_BYTES * dimension;
    const scores = textCount * heads * tokenCount ** 2;
    return tokenBytes + (isFused ? 0 : scores * SCORE_BYTES);
  });
  const tokensMax = Math.max(...profiles.map((shape) => shape.textCount * shape.tokenCount));
  const textsMax = Math.max(...profiles.map((shape) => shape.textCount));
  // Two int64 in; a sparse weight and a row a token out, and a row a text.
  const bufferBytes = tokensMax * (16 + 4 + 4 * dimension) + textsMax * 4 * dimension;
  const contexts = contextBytes.reduce((sum, bytes) => sum + bytes, 0);
  return {
    contextBytes,
    weightBytes,
    bufferBytes,
    servingBytes: weightBytes + contexts + bufferBytes + CUDA_BYTES,
    // One profile is timed at a time.
    buildingBytes: BUILD_WEIGHT_COPIES * weightBytes + Math.max(...contextBytes) + CUDA_BYTES,
  };
}

/**
 * What to try when profiles do not fit: first the longest with half the texts, then the next, each
 * down to batches of 4,096 tokens or one text; then without the one before the longest, whose texts
 * the longest takes. The longest text is never given up.
 *
 * @param wanted the largest shapes, by ascending length; the first of what is returned.
 */
export function profileLadder(
  wanted: readonly ProfileShape[],
): readonly (readonly ProfileShape[])[] {
  const rungs = [wanted];
  let profiles = wanted;
  const tokensOf = ({ textCount, tokenCount }: ProfileShape): number => textCount * tokenCount;
  let tokens = Math.max(...wanted.map(tokensOf)) / 2;
  for (; tokens >= FALLBACK_TOKENS_MIN; tokens /= 2) {
    for (let index = profiles.length - 1; index >= 0; index--) {
      const { textCount, tokenCount } = profiles[index] ?? { textCount: 1, tokenCount: 1 };
      const fewer = Math.max(1, Math.min(textCount, Math.floor(tokens / tokenCount)));
      if (fewer === textCount) continue;
      profiles = profiles.with(index, { textCount: fewer, tokenCount });
      rungs.push(profiles);
    }
  }
  while (profiles.length > 2) {
    profiles = profiles.toSpliced(-2, 1);
    rungs.push(profiles);
  }
  return rungs;
}

/**
 * The largest plan of a ladder that fits.
 *
 * @param options.freeBytes of the GPU.
 * @returns undefined when not even the smallest fits.
 */
export function fitProfiles(options: {
  readonly model: EngineModel;
  readonly rungs: readonly (readonly ProfileShape[])[];
  readonly isFused: boolean;
  readonly freeBytes: number;
}): FittingPlan | undefined {
  for (const profiles of options.rungs) {
    const memory = reckonMemory({ ...options, profiles });
    const neededBytes = Math.max(memory.servingBytes, memory.buildingBytes);
    if (neededBytes <= USABLE_SHARE * options.freeBytes) return { profiles, memory };
  }
  return undefined;
}

/** What profiles are to fit. */
export interface Room {
  readonly model: EngineModel;
  readonly gpu: string;
  /** Undefined when the driver does not tell: then everything seems to fit. */
  readonly freeBytes: number | undefined;
  /** At least one. */
  readonly rungs: readonly (readonly ProfileShape[])[];
}

/**
 * The largest plan that fits if attention is fused; if it is not, the build or the load will say.
 *
 * @throws ProvisionError with the figures when none does.
 */
export function demandRoom(room: Room): FittingPlan {
  const freeBytes = room.freeBytes ?? Number.POSITIVE_INFINITY;
  const fitting = fitProfiles({ ...room, isFused: true, freeBytes });
  if (fitting === undefined) throw new ProvisionError(noRoom(room));
  return fitting;
}

/** The last resort, with the figures. */
export function noRoom({ model, gpu, freeBytes, rungs }: Room): string {
  const profiles = rungs.at(-1) ?? [];
  const needs = [true, false].map((isFused) =>
    describeFit({ profiles, memory: reckonMemory({ model, profiles, isFused }) }),
  );
  return (
    `No engine fits ${gpu}: ${freeWords(freeBytes)}. The smallest one is ${needs[0]}; ` +
    `where attention is not fused, ${needs[1]}. A smaller tokenCountMax in the manifest needs less.`
  );
}

/** How much memory is free, as a clause. */
export function freeWords(freeBytes: number | undefined): string {
  return freeBytes === undefined
    ? 'nvidia-smi tells no memory'
    : `${gigabytes(freeBytes)} are free`;
}

/** `3.5 GB`. */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** One line on a plan: its profiles and its memory. */
export function describeFit({ profiles, memory }: FittingPlan): string {
  const { servingBytes, buildingBytes } = memory;
  return (
    `${formatProfiles(profiles)} (texts x tokens): ${gigabytes(servingBytes)} while it serves, ` +
    `${gigabytes(buildingBytes)} while it is built`
  );
}
