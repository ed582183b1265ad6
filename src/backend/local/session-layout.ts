/** How many sessions of a local model there are, and on how many threads each. */
export interface SessionLayout {
  readonly slotCount: number;
  /** Sessions beyond those, for a caller who would otherwise wait behind another's. */
  readonly spareSlotCount: number;
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
 * A model from this size on is loaded once, unless its weights are mapped: each session would have
 * its own. The small default has 0.07 to 0.12 GB, BGE-M3 0.9 GB in int8 and 2.3 GB in float32.
 */
const LARGE_BYTES = 512 * 2 ** 20;

/** Weights beyond this are not mapped: the copy on the disk would be as large. */
const MAPPED_BYTES_MAX = 1.5e9;
/** Below it sessions share next to nothing, and the runtime may end the set-up while it packs. */
const MAPPED_BYTES_MIN = 8_000_000;

/**
 * Decides how many sessions there are. Pure.
 *
 * A small model, or one whose sessions share their weights, runs in one worker for each core, a
 * text at a time in each, and once more over all cores. A large one runs once, over all cores:
 * fewer texts at the same time, and each one sooner.
 *
 * What an inference has begun cannot be called back, but the system shares cores among threads: one
 * session more lets a query pass texts of others, and far longer ones of its own caller, that every
 * session is busy with. Where sessions share their weights it costs some MB.
 *
 * @param options.isMapped whether sessions share the weights.
 * @param options.slotCount and `options.threadCount` are what the settings say; of 0 slots, this
 * decides.
 */
export function layoutSessions(options: {
  readonly modelBytes: number;
  readonly isMapped: boolean;
  readonly slotCount: number;
  readonly threadCount: number;
  readonly coreCount: number;
}): SessionLayout {
  const { modelBytes, isMapped, coreCount, threadCount } = options;
  const isLarge = isLargeModel(modelBytes);
  const isAlone = isLarge && !isMapped;
  if (isAlone && options.slotCount === 0) {
    const isTold = threadCount > 1;
    const threads = { threadCount: isTold ? threadCount : coreCount, wideThreadCount: 0 };
    return { slotCount: 1, spareSlotCount: 0, ...threads, ...LARGE_MESSAGE };
  }
  const slotCount = options.slotCount || coreCount;
  const wideThreadCount = slotCount > 1 && !isAlone ? slotCount * threadCount : 0;
  const message = isLarge ? LARGE_MESSAGE : SMALL_MESSAGE;
  const spareSlotCount = isMapped ? 1 : 0;
  return { slotCount, spareSlotCount, threadCount, wideThreadCount, ...message };
}

/** Whether a model of so many bytes is more than each session could have for itself. Pure. */
export function isLargeModel(modelBytes: number): boolean {
  return modelBytes >= LARGE_BYTES;
}

/** Whether a model of so many bytes may have a copy whose weights are mapped. Pure. */
export function isMappable(modelBytes: number): boolean {
  return modelBytes >= MAPPED_BYTES_MIN && modelBytes < MAPPED_BYTES_MAX;
}
