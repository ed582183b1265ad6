import { BackendFault } from '../backend/contract.ts';
import type { ServerError } from '../base/errors.ts';
import type { CopiedRow } from './copy-guard.ts';

/** Texts that failed together, and what is known of it. */
export interface FailedGroup<Text> {
  readonly texts: readonly Text[];
  readonly error: ServerError;
  /** Who failed; a repetition goes elsewhere if there is an elsewhere. */
  readonly failedBy: string | undefined;
  /** Whether these very texts have been tried twice, or are a part of such. */
  readonly isRepeated: boolean;
  /** The row that each text shares with another, when that is what is wrong. */
  readonly copies?: ReadonlyMap<Text, CopiedRow> | undefined;
}

/** Deaths that one batch may cause: what killed twice is not tried a third time. */
export const DEATHS_PER_BATCH_MAX = 2;

/**
 * Calls that may be spent on finding the bad texts of a batch. Halving finds one of 32 in ten
 * calls, and two in twenty; a batch of which every text fails is given up after about as many.
 */
export function rescueCallsMax(textCount: number): number {
  return 2 + 4 * Math.ceil(Math.log2(textCount));
}

/** A fault of these texts, or of one of them; not of the way to the backend. */
export function isOfTheBatch(error: ServerError): boolean {
  return error.code === 'EMB_BACKEND_FAILED' || error.code === 'EMB_OUTPUT_INVALID';
}

/** Whether the batch has ended the worker or the server that ran it. */
export function isDeath(error: ServerError): boolean {
  return error.cause instanceof BackendFault && error.cause.isDeath;
}

/**
 * What to try next for texts that failed together: the same once more when that may help, then
 * halves, then nothing. Pure.
 *
 * What found nobody is sent once more when somebody is there again. A single text is repeated once,
 * since a fault may pass. A whole batch is repeated only where another endpoint can take it: on the
 * same one its halves tell more.
 */
export function planRescue<Text>(
  group: FailedGroup<Text>,
  endpointCount: number,
): readonly (readonly Text[])[] {
  const { texts, error } = group;
  if (error.code === 'EMB_BACKEND_UNAVAILABLE') return group.isRepeated ? [] : [texts];
  if (!isOfTheBatch(error)) return [];
  if (!group.isRepeated && (endpointCount > 1 || texts.length === 1)) return [texts];
  if (texts.length === 1) return [];
  const middle = texts.length >> 1;
  return [texts.slice(0, middle), texts.slice(middle)];
}
