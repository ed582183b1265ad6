import {
  type Backend,
  BackendFault,
  type BackendLimits,
  type TokenBatch,
} from '../backend/contract.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import { type TracedText, tracesOf } from '../observe/tracing.ts';
import {
  DuplicateRows,
  type ExpectedRows,
  faultOfOutput,
  type Head,
  outputsOfTexts,
  type SharedRow,
  type TextOutput,
} from '../vectors/output.ts';
import { takeHalves } from './pending-request.ts';

/** A text that has left the queue. */
export interface RunningText extends TracedText {
  readonly ids: Int32Array;
  readonly paddedLength: number;
  readonly heads: readonly Head[];
  readonly request: TracedText['request'] & {
    /** Nobody waits for the text any more. */
    readonly isSettled: boolean;
  };
}

/** A batch that holds a slot: the part of it that runs now, and how to give that up. */
export interface RunningBatch<Text> {
  /** The whole batch until it has failed. */
  texts: readonly Text[];
  abort: AbortController;
  readonly limits: BackendLimits;
  /** What the backend lent for it. Given back once all its texts are settled. */
  readonly lent: (() => void)[];
}

/** Some texts of a batch that were run once. Nobody has been told yet. */
export interface Attempt<Text> {
  readonly texts: readonly Text[];
  /** One for each text; empty when the call itself failed. */
  readonly outputs: readonly TextOutput[];
  readonly servedBy: string | undefined;
  /** As in `BatchOutput`. */
  readonly isSecondTry?: boolean | undefined;
  /** Texts that did not come out right. Empty when the whole batch did. */
  readonly failed: readonly FailedGroup<Text>[];
}

/** Texts that failed together, and what is known of it. */
interface FailedGroup<Text> {
  readonly texts: readonly Text[];
  readonly error: ServerError;
  /** The endpoint that failed; the texts are next tried on another, if there is one. */
  readonly failedBy: string | undefined;
  /** Whether these very texts have been tried twice, or are a part of such. */
  readonly isRepeated: boolean;
  /** The row that each text shares with another, when that is what is wrong. */
  readonly shared?: ReadonlyMap<Text, SharedRow> | undefined;
}

/** How texts that failed are tried again. */
type Repetition<Text> = Pick<FailedGroup<Text>, 'failedBy' | 'shared'>;

/** Runs batches, and takes those apart that fail. */
export interface Bisection<Text extends RunningText> {
  /** Runs a whole batch once, and tells nobody. Never rejects. */
  attempt(batch: RunningBatch<Text>): Promise<Attempt<Text>>;
  /**
   * Settles each text of an attempt that failed: with its output, or with its own error. Never
   * rejects.
   *
   * @returns the further calls that it took.
   */
  rescue(batch: RunningBatch<Text>, first: Attempt<Text>): Promise<number>;
}

/** Deaths that one batch may cause: what killed twice is not tried a third time. */
const DEATHS_PER_BATCH_MAX = 2;

/** `<s> </s>`: no request can hold such a text. */
const CANARY = Int32Array.of(0, 2);

/**
 * Bisection: a batch that fails is halved until the bad text is alone. That text gets the error,
 * the others get their rows. A batch that failed on one endpoint is first tried whole on another.
 *
 * The number of calls is bounded. The batch keeps its one slot meanwhile, so a flood of bad texts
 * gets no more of the backend than its share.
 *
 * @param options.whenReady resolves when the backend is ready, at once if it is; to false when it
 * has not come back in time.
 * @param options.settle called exactly once for each text of a batch that is rescued.
 */
export function createBisection<Text extends RunningText>(options: {
  backend: Backend;
  expected: ExpectedRows;
  quarantine: Quarantine;
  whenReady: () => Promise<boolean>;
  settle: (text: Text, outcome: TextOutput | ServerError, servedBy: string | undefined) => void;
}): Bisection<Text> {
  const { backend, expected, quarantine, whenReady, settle } = options;
  const duplicateRows = new DuplicateRows();

  /** Runs texts of a batch once. */
  async function run(
    batch: RunningBatch<Text>,
    texts: readonly Text[],
    again: Repetition<Text> | undefined,
  ): Promise<Attempt<Text>> {
    batch.texts = texts;
    if (batch.abort.signal.aborted) batch.abort = new AbortController();
    const { signal } = batch.abort;
    const [avoid, isRepeated] = [again?.failedBy, again !== undefined];
    let servedBy: string | undefined;
    let isSecondTry: boolean | undefined;
    let outputs: readonly TextOutput[];
    try {
      const tokenBatch = tokenBatchOf(texts, batch.limits);
      const traces = tracesOf(texts);
      const output = await backend.infer(tokenBatch, { signal, avoid, traces });
      ({ servedBy, isSecondTry } = output);
      if (output.giveBack !== undefined) batch.lent.push(output.giveBack);
      outputs = outputsOfTexts(tokenBatch, output, takeHalves);
    } catch (thrown) {
      const error = toServerError(thrown);
      if (isDeath(error)) quarantine.remember(texts);
      const group = { texts, error, failedBy: servedByOf(error) ?? avoid, isRepeated };
      return { texts, outputs: [], servedBy: undefined, failed: [group] };
    }
    if (!quarantine.isEmpty) for (const { ids } of texts) quarantine.clear(ids);
    const failed = wrongRows(texts, outputs, { servedBy, isRepeated });
    return { texts, outputs, servedBy, isSecondTry, failed };
  }

  /** The output guard: the texts whose rows must not leave. */
  function wrongRows(
    texts: readonly Text[],
    outputs: readonly TextOutput[],
    { servedBy, isRepeated }: { servedBy: string | undefined; isRepeated: boolean },
  ): FailedGroup<Text>[] {
    const shared = duplicateRows.find(texts, outputs);
    const invalid: Text[] = [];
    let firstFault: string | undefined;
    for (let index = 0; index < texts.length; index++) {
      const fault = faultOfOutput(outputs[index], texts[index].ids.length, expected);
      if (fault === undefined) continue;
      firstFault ??= fault;
      invalid.push(texts[index]);
    }
    const failed: FailedGroup<Text>[] = [];
    if (firstFault === undefined && shared === undefined) return failed;
    const group = { failedBy: servedBy, isRepeated };
    if (firstFault !== undefined) {
      failed.push({ ...group, texts: invalid, error: outputInvalid(firstFault, servedBy) });
    }
    const sharing = [...(shared?.keys() ?? [])].filter((text) => !invalid.includes(text));
    if (sharing.length > 0) {
      const error = outputInvalid('is the same as that of another text', servedBy);
      failed.push({ ...group, texts: sharing, error, shared });
    }
    return failed;
  }

  /** Breadth first: few calls save many texts before the last bad ones are searched for. */
  async function rescue(batch: RunningBatch<Text>, first: Attempt<Text>): Promise<number> {
    const callsMax = callsMaxOf(first.texts.length);
    let callCount = 0;
    let deathCount = deathCountOf(first);
    await settleRight(batch, first, undefined);
    const failed = [...first.failed];
    for (let group = failed.shift(); group !== undefined; group = failed.shift()) {
      const { error, failedBy } = group;
      const parts = nextParts(group, batch.limits.endpointCount);
      if (parts.length === 0 || callCount + parts.length > callsMax) {
        for (const text of group.texts) settle(text, error, failedBy);
        continue;
      }
      for (const part of parts) {
        const isBack = await whenReady();
        const isGivenUp = !isBack || deathCount >= DEATHS_PER_BATCH_MAX;
        const texts = isGivenUp ? [] : part.filter((text) => !text.request.isSettled);
        // Nobody knows any more whether these texts are at fault.
        const why = isBack ? error : wentAway(error);
        for (const text of part) if (!texts.includes(text)) settle(text, why, failedBy);
        if (texts.length === 0) continue;
        callCount++;
        const again = await run(batch, texts, group);
        deathCount += deathCountOf(again);
        await settleRight(batch, again, group.shared);
        failed.push(...again.failed);
      }
    }
    return callCount;
  }

  /** Settles the texts of an attempt that came out right. */
  async function settleRight(
    batch: RunningBatch<Text>,
    { texts, outputs, servedBy, failed }: Attempt<Text>,
    shared: ReadonlyMap<Text, SharedRow> | undefined,
  ): Promise<void> {
    const withheld = new Set(failed.flatMap((group) => group.texts));
    for (let index = 0; index < texts.length; index++) {
      const text = texts[index];
      if (withheld.has(text)) continue;
      const isDoubtful =
        shared !== undefined && (await isOfAll(text, outputs[index], { batch, shared }));
      const outcome = isDoubtful
        ? outputInvalid('is the same for every text', servedBy)
        : outputs[index];
      settle(text, outcome, servedBy);
    }
    if (failed.length > 0 && servedBy !== undefined) {
      await backend.doubt(servedBy).catch(() => undefined);
    }
  }

  /** Whether the model gives the row of a text to every text. */
  async function isOfAll(
    text: Text,
    output: TextOutput,
    { batch, shared }: { batch: RunningBatch<Text>; shared: ReadonlyMap<Text, SharedRow> },
  ): Promise<boolean> {
    const sharedRow = shared.get(text);
    if (sharedRow === undefined || output.dense === undefined) return false;
    return await duplicateRows.isOfAll(output.dense, sharedRow, async () => {
      const canary = { ...text, ids: CANARY, paddedLength: CANARY.length };
      const tokenBatch = tokenBatchOf([canary], batch.limits);
      try {
        const answer = await backend.infer(tokenBatch, { signal: batch.abort.signal });
        if (answer.giveBack !== undefined) batch.lent.push(answer.giveBack);
        return outputsOfTexts(tokenBatch, answer, takeHalves)[0].dense;
      } catch {
        // A row that cannot be checked is withheld.
        return undefined;
      }
    });
  }

  return { attempt: (batch) => run(batch, batch.texts, undefined), rescue };
}

/**
 * What to try next for texts that failed together: the same once more when that may help, then
 * halves, then nothing. Pure.
 *
 * A batch that found no backend is sent once more when there is one. A single text is repeated
 * once, since a fault may pass. A whole batch is repeated only where another endpoint can take it:
 * on the same endpoint its halves tell more.
 */
function nextParts<Text>(
  group: FailedGroup<Text>,
  endpointCount: number,
): readonly (readonly Text[])[] {
  const { texts, error } = group;
  if (error.code === 'EMB_BACKEND_UNAVAILABLE') return group.isRepeated ? [] : [texts];
  if (error.blames !== 'batch') return [];
  if (!group.isRepeated && (endpointCount > 1 || texts.length === 1)) return [texts];
  if (texts.length === 1) return [];
  const middle = texts.length >> 1;
  return [texts.slice(0, middle), texts.slice(middle)];
}

/**
 * Calls that may be spent on finding the bad texts of a batch. Halving finds one of 32 in ten
 * calls, and two in twenty; a batch of which every text fails is given up after about as many.
 */
function callsMaxOf(textCount: number): number {
  return 2 + 4 * Math.ceil(Math.log2(textCount));
}

/** Whether the batch has ended the worker or the server that ran it. */
function isDeath(error: ServerError): boolean {
  return error.cause instanceof BackendFault && error.cause.isDeath;
}

function deathCountOf(attempt: Attempt<unknown>): number {
  return attempt.failed.filter(({ error }) => isDeath(error)).length;
}

/** The texts as a backend takes them. */
function tokenBatchOf(texts: readonly RunningText[], limits: BackendLimits): TokenBatch {
  let paddedLength = 0;
  for (const text of texts) {
    paddedLength = Math.max(paddedLength, limits.isOneByOne ? text.ids.length : text.paddedLength);
  }
  return { texts: texts.map((text) => text.ids), paddedLength, heads: texts[0].heads };
}

/** The error of texts that were still to be tried when the backend went away. */
function wentAway(cause: ServerError): ServerError {
  const message = 'The backend went away before the text could be tried again.';
  return new ServerError('EMB_BACKEND_UNAVAILABLE', message, { cause });
}

function servedByOf(error: ServerError): string | undefined {
  return error.cause instanceof BackendFault ? error.cause.servedBy : undefined;
}

function outputInvalid(fault: string, servedBy = ''): ServerError {
  return new ServerError('EMB_OUTPUT_INVALID', `The output ${fault}; it is withheld.`, {
    cause: new BackendFault(`a row ${fault}`, { servedBy, isDeath: false }),
  });
}

/** Deaths after which a text is refused. One may be chance: something else killed the worker. */
const DEATHS_MAX = 2;

/** How long a text is remembered after its last death, in ms: longer than clients retry. */
const MEMORY_MS = 600_000;

/** Texts remembered at once; the oldest is forgotten first. A thousand are an attack. */
const TEXTS_MAX = 1024;

interface Suspect {
  deathCount: number;
  /** Whether it was alone at its last death, and so is the cause without doubt. */
  wasAlone: boolean;
  untilMs: number;
}

/**
 * Remembers, by hash, the texts of each batch whose worker or server died. Such a text runs alone
 * from then on, so that it harms no other. One that has killed twice, and was alone the last time,
 * is refused until it is forgotten.
 */
export class Quarantine {
  readonly #clock: Clock;
  readonly #suspects = new Map<bigint | number, Suspect>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether nothing is remembered: then no text has to be hashed. */
  get isEmpty(): boolean {
    return this.#suspects.size === 0;
  }

  /** What is known of a text: nothing, that it must run alone, or the error that refuses it. */
  judge(ids: Int32Array): 'unknown' | 'alone' | ServerError {
    const key = keyOf(ids);
    const suspect = this.#suspects.get(key);
    if (suspect === undefined) return 'unknown';
    const leftMs = suspect.untilMs - this.#clock.now();
    if (leftMs <= 0) {
      this.#suspects.delete(key);
      return 'unknown';
    }
    if (suspect.deathCount < DEATHS_MAX || !suspect.wasAlone) return 'alone';
    return new ServerError(
      'EMB_TEXT_REFUSED',
      `This text has ended a worker of the model ${suspect.deathCount} times and is refused for now.`,
      { limit: DEATHS_MAX, value: suspect.deathCount },
    );
  }

  /** These texts were in one batch whose worker died. */
  remember(texts: readonly { readonly ids: Int32Array }[]): void {
    const wasAlone = texts.length === 1;
    const untilMs = this.#clock.now() + MEMORY_MS;
    for (const { ids } of texts) {
      const key = keyOf(ids);
      const deathCount = (this.#suspects.get(key)?.deathCount ?? 0) + 1;
      this.#suspects.delete(key);
      this.#suspects.set(key, { deathCount, wasAlone, untilMs });
    }
    for (const key of this.#suspects.keys()) {
      if (this.#suspects.size <= TEXTS_MAX) break;
      this.#suspects.delete(key);
    }
  }

  /** The text has run and nothing died. */
  clear(ids: Int32Array): void {
    if (this.#suspects.size > 0) this.#suspects.delete(keyOf(ids));
  }
}

function keyOf(ids: Int32Array): bigint | number {
  return Bun.hash(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
}
