import type { ServerError } from '../base/errors.ts';

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
  texts: readonly {
    readonly ids: Int32Array;
    readonly paddedLength: number;
    readonly arrivedMs: number;
    readonly sentMs: number;
  }[],
  run: {
    readonly isOneByOne: boolean;
    readonly inferMs: number;
    readonly error: ServerError | undefined;
    readonly rescueCallCount: number;
  },
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
