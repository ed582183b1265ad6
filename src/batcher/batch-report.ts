import type { BackendLimits } from '../backend/contract.ts';
import type { ServerError } from '../base/errors.ts';
import type { PendingText } from './pending-request.ts';
import { textCostOf } from './plan.ts';

/** What became of a batch, for the log and the metrics. */
export interface BatchReport {
  readonly textCount: number;
  /** Tokens that were computed, padding included. */
  readonly computedTokenCount: number;
  /** Tokens that were not padding. */
  readonly tokenCount: number;
  readonly inferMs: number;
  /** Wait of the text that waited longest. */
  readonly queueMsMax: number;
  /** Why its first call failed. */
  readonly error: ServerError | undefined;
  /** Further calls that were spent on saving its texts. */
  readonly rescueCallCount: number;
}

/** Adds up what the texts of a batch were like. */
export function reportOf(
  texts: readonly Pick<PendingText, 'ids' | 'paddedLength' | 'arrivedMs' | 'sentMs'>[],
  run: Pick<BatchReport, 'inferMs' | 'error' | 'rescueCallCount'> & { isOneByOne: boolean },
): BatchReport {
  const { isOneByOne, inferMs, error, rescueCallCount } = run;
  let paddedLength = 0;
  let tokenCount = 0;
  let queueMsMax = 0;
  for (const { ids, paddedLength: shared, arrivedMs, sentMs } of texts) {
    paddedLength = Math.max(paddedLength, shared);
    tokenCount += ids.length;
    queueMsMax = Math.max(queueMsMax, sentMs - arrivedMs);
  }
  const textCount = texts.length;
  const computedTokenCount = isOneByOne ? tokenCount : textCount * paddedLength;
  return {
    ...{ textCount, tokenCount, computedTokenCount },
    ...{ inferMs, queueMsMax, error, rescueCallCount },
  };
}

/** What a batch has cost, in tokens of a short text. */
export function costOf(texts: readonly PendingText[], limits: BackendLimits): number {
  let [sum, longest] = [0, 0];
  for (const { ids, paddedLength } of texts) {
    sum += textCostOf(ids.length, limits);
    longest = Math.max(longest, paddedLength);
  }
  return limits.isOneByOne ? sum : texts.length * textCostOf(longest, limits);
}

/** The part of a batch's cost that is of the background, whose texts are its last. */
export function backgroundCostOf(texts: readonly PendingText[], cost: number): number {
  if (texts[0].request.isBackground) return cost;
  let count = 0;
  while (texts[texts.length - 1 - count].request.isBackground) count++;
  return (cost * count) / texts.length;
}

/** Tokens of the background texts of a batch. */
export function backgroundTokensOf(texts: readonly PendingText[]): number {
  let tokenCount = 0;
  for (let at = texts.length; at-- > 0 && texts[at].request.isBackground; ) {
    tokenCount += texts[at].ids.length;
  }
  return tokenCount;
}
