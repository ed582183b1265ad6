import { statSync } from 'node:fs';

/** How many sessions of a local model there are, and on how many threads each. */
export interface SessionLayout {
  readonly slotCount: number;
  /** Threads of each slot's session. */
  readonly threadCount: number;
  /** Threads of one more session, for a text that has the machine to itself; 0 for none. */
  readonly wideThreadCount: number;
  /** Texts that ride in one message to a worker, and tokens of them together. */
  readonly messageTextsMax: number;
  readonly messageTokensMax: number;
}

/**
 * Some 50 ms of a small model's work on one core. A text that is computed alone takes up to twice
 * that, so nothing waits behind a message for longer than it may wait anyway.
 */
const SMALL_MESSAGE = { messageTextsMax: 16, messageTokensMax: 320 } as const;

/** Against a second of inference a message is nothing. */
const LARGE_MESSAGE = { messageTextsMax: 1, messageTokensMax: 1 } as const;

/**
 * A model from this size on is loaded once, and its weights are not mapped: BGE-M3's are 2.3 GB,
 * and a copy of them would be as large. The small default has 0.07 to 0.12 GB.
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
export function layoutSessions(options: {
  readonly modelBytes: number;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly coreCount: number;
}): SessionLayout {
  const { modelBytes, coreCount, threadCount } = options;
  const isLarge = isLargeModel(modelBytes);
  if (isLarge && options.slotCount === 0) {
    const isTold = threadCount > 1;
    const threads = { threadCount: isTold ? threadCount : coreCount, wideThreadCount: 0 };
    return { slotCount: 1, ...threads, ...LARGE_MESSAGE };
  }
  const slotCount = options.slotCount || coreCount;
  const wideThreadCount = slotCount > 1 && !isLarge ? slotCount * threadCount : 0;
  const message = isLarge ? LARGE_MESSAGE : SMALL_MESSAGE;
  return { slotCount, threadCount, wideThreadCount, ...message };
}

/** Whether a model of so many bytes is loaded once, and not for each core. Pure. */
export function isLargeModel(modelBytes: number): boolean {
  return modelBytes >= LARGE_BYTES;
}

/** Bytes of a graph and of the weights beside it; 0 when it is not there. */
export function modelBytesOf(modelPath: string): number {
  const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  return sizeOf(modelPath) + sizeOf(`${modelPath}_data`);
}
