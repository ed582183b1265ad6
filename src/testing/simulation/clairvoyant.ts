import { type ProfileShape, textsOfLength } from '../../model/engine-profiles.ts';

/** What a batch costs and how large it may be. */
export interface ScheduleModel {
  /** Time of a batch, whatever is in it, in ms. */
  readonly launchMs: number;
  readonly tokensPerSecond: number;
  /**
   * Length at which attention costs as much as all the rest of a token, which does not grow with
   * the length; unless told, attention costs nothing of its own.
   */
  readonly lengthTokens?: number;
  readonly batchTextsMax: number;
  /** Padded tokens (longest × texts) in one batch. One text alone may exceed it. */
  readonly batchTokensMax: number;
  /** The largest shapes of an engine; unless told, any shape within the other limits will do. */
  readonly profiles?: readonly ProfileShape[];
}

/** Batches that hold all texts, and the time that they take one after the other. */
export interface Schedule {
  readonly totalMs: number;
  /** Token counts of the texts of each batch, ascending. */
  readonly batches: readonly (readonly number[])[];
}

/**
 * The best schedule that exists for texts that are all known beforehand: sorted by length, cut
 * where the sum of launches and padded tokens is smallest. No server can do it, since texts come
 * one by one: it is what ours is measured against.
 *
 * @param tokenCounts of the texts, in any order; borrowed.
 */
export function clairvoyantSchedule(
  tokenCounts: readonly number[],
  model: ScheduleModel,
): Schedule {
  const sorted = [...tokenCounts].sort((a, b) => a - b);
  // Sorted texts are best cut into runs: swapping two texts between batches never shortens either.
  const bestMs = new Float64Array(sorted.length + 1);
  const lastCount = new Int32Array(sorted.length + 1);
  for (let end = 1; end <= sorted.length; end++) {
    const longest = sorted[end - 1];
    bestMs[end] = Number.POSITIVE_INFINITY;
    const held = model.profiles ? textsOfLength(model.profiles, longest) : end;
    const countMax = Math.min(end, model.batchTextsMax, Math.max(1, held));
    for (let count = 1; count <= countMax; count++) {
      if (count > 1 && longest * count > model.batchTokensMax) break;
      const totalMs = bestMs[end - count] + batchMs({ longest, count }, model);
      if (totalMs >= bestMs[end]) continue;
      bestMs[end] = totalMs;
      lastCount[end] = count;
    }
  }
  const batches: number[][] = [];
  for (let end = sorted.length; end > 0; end -= lastCount[end]) {
    batches.unshift(sorted.slice(end - lastCount[end], end));
  }
  return { totalMs: bestMs[sorted.length], batches };
}

/** The time of one batch of `count` texts padded to `longest` tokens. */
export function batchMs(
  { longest, count }: { longest: number; count: number },
  model: Pick<ScheduleModel, 'launchMs' | 'tokensPerSecond' | 'lengthTokens'>,
): number {
  const { launchMs, tokensPerSecond, lengthTokens = Number.POSITIVE_INFINITY } = model;
  return launchMs + (longest * count * (1 + longest / lengthTokens) * 1000) / tokensPerSecond;
}
