import {
  type Backend,
  BackendFault,
  type BackendLimits,
  type TokenBatch,
} from '../backend/contract.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import type { Head } from '../vectors/head.ts';
import { type ExpectedRows, faultOfOutput } from '../vectors/output-guard.ts';
import { outputsOfTexts, type TextOutput } from '../vectors/text-output.ts';
import { type CopiedRow, CopyGuard } from './copy-guard.ts';
import type { PoisonList } from './poison-list.ts';
import {
  DEATHS_PER_BATCH_MAX,
  type FailedGroup,
  isDeath,
  planRescue,
  rescueCallsMax,
} from './rescue-plan.ts';

/** A text that has left the queue. */
export interface RunningText {
  readonly ids: Int32Array;
  readonly paddedLength: number;
  readonly heads: readonly Head[];
  /** Settled when nobody waits for the text any more. */
  readonly ticket: { readonly isSettled: boolean };
}

/** A batch on its way: the part of it that runs now, and how to give that up. */
export interface Flight<Text> {
  /** Of the whole batch until it has failed. */
  texts: readonly Text[];
  abort: AbortController;
}

/** What became of a batch. */
export interface BatchRun {
  /** Why its first call failed; undefined when it did not. */
  readonly error: ServerError | undefined;
  /** Calls beyond the first that were spent on saving its texts. */
  readonly rescueCallCount: number;
}

/** Runs batches to their end: every text of one gets its output or its own error. */
export interface BatchRunner<Text extends RunningText> {
  /**
   * Never rejects.
   *
   * @param onRight called when every text has come out right at once, before any of them is told:
   * the backend has done with the batch.
   */
  run(flight: Flight<Text>, limits: BackendLimits, onRight: () => void): Promise<BatchRun>;
}

/** Some texts of a batch, to be run once. */
interface Part<Text> {
  readonly texts: readonly Text[];
  readonly isRepeated: boolean;
  readonly limits: BackendLimits;
  readonly flight: Flight<Text>;
  readonly avoid?: string | undefined;
  readonly copies?: ReadonlyMap<Text, CopiedRow> | undefined;
  readonly onRight?: () => void;
}

/** `<s> </s>`: no request can hold such a text. */
const CANARY = Int32Array.of(0, 2);

/**
 * A batch that fails is taken apart until the bad text is alone. It gets the error, the others
 * their rows; what failed on one endpoint is first tried whole on another. The extra calls are
 * bounded, and they stay in the batch's own slot, so that a flood of bad texts cannot take more of
 * the backend than its share.
 *
 * @param options.settle called exactly once for each text of a batch.
 */
export function createBatchRunner<Text extends RunningText>(options: {
  backend: Backend;
  expected: ExpectedRows;
  poison: PoisonList;
  /**
   * Resolves when the backend is ready, at once if it is; false when it has not come back in time.
   */
  whenReady: () => Promise<boolean>;
  settle: (text: Text, outcome: TextOutput | ServerError, servedBy: string | undefined) => void;
}): BatchRunner<Text> {
  const { backend, expected, poison, whenReady, settle } = options;
  const copyGuard = new CopyGuard();

  async function run(
    flight: Flight<Text>,
    limits: BackendLimits,
    onRight: () => void,
  ): Promise<BatchRun> {
    const { texts } = flight;
    const failed = await attempt({ texts, isRepeated: false, limits, flight, onRight });
    if (failed.length === 0) return { error: undefined, rescueCallCount: 0 };
    const { error } = failed[0];
    const callsMax = rescueCallsMax(texts.length);
    const rescueCallCount = await rescue(failed, { limits, flight, callsMax });
    return { error, rescueCallCount };
  }

  /** Breadth first: many texts are saved by few calls before the last ones are looked for. */
  async function rescue(
    failed: FailedGroup<Text>[],
    run: { limits: BackendLimits; flight: Flight<Text>; callsMax: number },
  ): Promise<number> {
    const { limits, flight, callsMax } = run;
    let callCount = 0;
    let deathCount = failed.filter(({ error }) => isDeath(error)).length;
    for (let group = failed.shift(); group !== undefined; group = failed.shift()) {
      const { error, failedBy: avoid, copies } = group;
      const parts = planRescue(group, limits.endpointCount);
      if (parts.length === 0 || callCount + parts.length > callsMax) {
        for (const text of group.texts) settle(text, error, avoid);
        continue;
      }
      for (const part of parts) {
        const isBack = await whenReady();
        const isGivenUp = !isBack || deathCount >= DEATHS_PER_BATCH_MAX;
        const texts = isGivenUp ? [] : part.filter((text) => !text.ticket.isSettled);
        // What can no longer be found out is not the fault of these texts.
        const why = isBack ? error : awayFrom(error);
        for (const text of part) if (!texts.includes(text)) settle(text, why, avoid);
        if (texts.length === 0) continue;
        callCount++;
        const again = await attempt({ texts, isRepeated: true, limits, flight, avoid, copies });
        deathCount += again.filter((left) => isDeath(left.error)).length;
        failed.push(...again);
      }
    }
    return callCount;
  }

  /** Runs texts once. Settles those that came out right, and returns the others. */
  async function attempt(part: Part<Text>): Promise<FailedGroup<Text>[]> {
    const { texts, isRepeated, limits, flight, avoid } = part;
    flight.texts = texts;
    if (flight.abort.signal.aborted) flight.abort = new AbortController();
    const { signal } = flight.abort;
    let servedBy: string | undefined;
    let outputs: readonly TextOutput[];
    try {
      const batch = batchOf(texts, limits);
      const output = await backend.infer(batch, { signal, avoid });
      servedBy = output.servedBy;
      outputs = outputsOfTexts(batch, output);
    } catch (thrown) {
      const error = toServerError(thrown);
      if (isDeath(error)) poison.remember(texts);
      return [{ texts, error, failedBy: servedByOf(error) ?? avoid, isRepeated }];
    }
    if (!poison.isEmpty) for (const { ids } of texts) poison.clear(ids);
    return await settleRight(part, outputs, servedBy);
  }

  async function settleRight(
    part: Part<Text>,
    outputs: readonly TextOutput[],
    servedBy: string | undefined,
  ): Promise<FailedGroup<Text>[]> {
    const { texts, isRepeated } = part;
    const copies = copyGuard.find(texts, outputs);
    const faults = texts.map(({ ids }, at) => faultOfOutput(outputs[at], ids.length, expected));
    const fault = faults.find((found) => found !== undefined);
    // Replies take far longer to write than this took to find out.
    if (fault === undefined && copies === undefined) part.onRight?.();
    const invalid: Text[] = [];
    for (let index = 0; index < texts.length; index++) {
      const text = texts[index];
      if (faults[index] !== undefined) invalid.push(text);
      else if (copies?.has(text)) continue;
      else if (part.copies !== undefined && (await isDoubtful(text, outputs[index], part))) {
        settle(text, outputInvalid('is the same for every text', servedBy), servedBy);
      } else settle(text, outputs[index], servedBy);
    }
    const failed: FailedGroup<Text>[] = [];
    const isDoubted = fault !== undefined || copies !== undefined;
    if (isDoubted && servedBy !== undefined) await backend.doubt?.(servedBy).catch(() => undefined);
    const group = { failedBy: servedBy, isRepeated };
    if (fault !== undefined) {
      failed.push({ ...group, texts: invalid, error: outputInvalid(fault, servedBy) });
    }
    if (copies !== undefined) {
      const copied = [...copies.keys()].filter((text) => !invalid.includes(text));
      const error = outputInvalid('is the same as that of another text', servedBy);
      if (copied.length > 0) failed.push({ ...group, texts: copied, error, copies });
    }
    return failed;
  }

  async function isDoubtful(text: Text, output: TextOutput, part: Part<Text>): Promise<boolean> {
    const copied = part.copies?.get(text);
    if (copied === undefined || output.dense === undefined) return false;
    const { limits, flight } = part;
    const { signal } = flight.abort;
    const askCanary = async (): Promise<Float32Array | undefined> => {
      const canary = { ...text, ids: CANARY, paddedLength: CANARY.length };
      const batch = batchOf([canary], limits);
      try {
        return outputsOfTexts(batch, await backend.infer(batch, { signal }))[0].dense;
      } catch {
        // What cannot be checked is withheld.
        return undefined;
      }
    };
    return await copyGuard.isDoubtful(output.dense, copied, askCanary);
  }

  return { run };
}

/** The texts as a backend takes them. */
function batchOf(texts: readonly RunningText[], limits: BackendLimits): TokenBatch {
  let paddedLength = 0;
  for (const text of texts) {
    const length = limits.isOneByOne ? text.ids.length : text.paddedLength;
    if (length > paddedLength) paddedLength = length;
  }
  return { texts: texts.map((text) => text.ids), paddedLength, heads: texts[0].heads };
}

/** The error of texts that were still to be tried when the backend went away. */
function awayFrom(cause: ServerError): ServerError {
  const message = 'The backend went away before the text could be tried again.';
  return new ServerError('EMB_BACKEND_UNAVAILABLE', message, { retryAfterMs: 1000, cause });
}

function servedByOf(error: ServerError): string | undefined {
  return error.cause instanceof BackendFault ? error.cause.servedBy : undefined;
}

function outputInvalid(fault: string, servedBy = ''): ServerError {
  return new ServerError('EMB_OUTPUT_INVALID', `The output ${fault}; it is withheld.`, {
    cause: new BackendFault(`a row ${fault}`, { servedBy, isDeath: false }),
  });
}
