import { statSync } from 'node:fs';

/** How an embedded model is spread over the cores. */
export interface EmbeddedPlan {
  readonly slotCount: number;
  /** Threads of each slot's session. */
  readonly threadCount: number;
  /** Threads of one more session, for a text that has the machine to itself; 0 for none. */
  readonly wideThreadCount: number;
}

/**
 * A model from this size on is loaded once: each session keeps weights of its own, and BGE-M3's are
 * 2.3 GB. The small default has 0.07 to 0.12 GB.
 */
const LARGE_BYTES = 512 * 2 ** 20;

/**
 * Decides how many sessions there are. Pure.
 *
 * A small model runs in one worker for each core, a text at a time in each, and once more over all
 * cores. A large one runs once, over all cores: fewer texts at the same time, and each one sooner.
 *
 * @param options.slotCount and `options.threadCount` are what the settings say; of 0 slots, this
 * decides.
 */
export function planEmbedded(options: {
  readonly modelBytes: number;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly coreCount: number;
}): EmbeddedPlan {
  const { modelBytes, coreCount, threadCount } = options;
  const isLarge = modelBytes >= LARGE_BYTES;
  if (isLarge && options.slotCount === 0) {
    const isTold = threadCount > 1;
    return { slotCount: 1, threadCount: isTold ? threadCount : coreCount, wideThreadCount: 0 };
  }
  const slotCount = options.slotCount || coreCount;
  const wideThreadCount = slotCount > 1 && !isLarge ? slotCount * threadCount : 0;
  return { slotCount, threadCount, wideThreadCount };
}

/** Bytes of a graph and of the weights beside it; 0 when it is not there. */
export function modelBytesOf(modelPath: string): number {
  const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  return sizeOf(modelPath) + sizeOf(`${modelPath}_data`);
}
