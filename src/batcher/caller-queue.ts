import type { Backend, BackendLimits } from '../backend/contract.ts';
import type { Clock } from '../base/clock.ts';
import type { DispatchPacing, DrainEstimate } from './pacing.ts';
import { backfill, costOf, type PendingRequest, type PendingText } from './pending-request.ts';
import { BatchQueue } from './queue.ts';

/** How long a caller counts as present after its last request, in ms. */
const PRESENT_MS = 10_000;

/** What a caller may have waiting and still be one who asks, as a part of a full batch. */
const ASKING_PART = 0.5;

/**
 * What counts as a full batch where each text is sent by itself, as to a large model on a CPU: of
 * a batch of one text a single query would be more than half. As much as a small model is sent.
 */
const SINGLE_TEXTS = 16;
const SINGLE_TOKENS = 320;

/** How much of the backend's time callers who ask and bulk texts give up for each other. */
export interface SharingLimits {
  /** What bulk texts may add to the cost of a batch of those who ask, as a part of it. */
  readonly backfillPart: number;
  /** How many launches a bulk batch may take beside callers who ask. */
  readonly launchesMax: number;
  /** Whether a full batch, too, is sent only when its endpoint is about to need it. */
  readonly isJustInTime: boolean;
}

/** Chosen by `scripts/sim/callers-sim.ts`. Beyond six launches a larger batch spares a sixth. */
export const SHARING: SharingLimits = { backfillPart: 0.25, launchesMax: 6, isJustInTime: true };

/** By how much of a server's time those who ask may be ahead of bulk texts that wait, in ms. */
const AHEAD_MS = 1000;

/** What a caller, or one of its requests, has waiting. */
interface Waiting {
  textCount: number;
  tokenCount: number;
}

/**
 * The texts of callers, in two queues. While several callers are present, one that has more than
 * half a batch waiting sends bulk texts, and the others ask:
 *
 * 1. Who asks goes first. Within each queue the virtual deadlines decide, and they know requests
 *    and no callers: to them a burst of a thousand small requests is a thousand urgent ones.
 * 2. A batch of those who ask takes bulk texts along while they add a quarter to its cost: the
 *    launch is used, and the answer does not take as long as a full batch.
 * 3. A bulk batch is bounded, and sent just in time, since it cannot be called back.
 * 4. Those who ask are never ahead by more than a second of the server's time: from then on both
 *    queues take turns.
 *
 * A caller who is alone has one queue, and batches as large as any.
 */
export class CallerQueue {
  readonly #pacing: DispatchPacing;
  readonly #limits: SharingLimits;
  readonly #asking = new BatchQueue<PendingText>();
  readonly #bulk = new BatchQueue<PendingText>();
  /** Kept while several are present: of those who have texts waiting. */
  readonly #callers = new Map<string | undefined, Waiting>();
  /** Who came last, when, and when the last of the others did. */
  #lastCaller: string | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;
  #otherMs = Number.NEGATIVE_INFINITY;
  #isShared = false;
  /** What those who ask are ahead by, in tokens of a short text. */
  #aheadCost = 0;

  constructor(options: {
    pacing: DispatchPacing;
    limits?: SharingLimits | undefined;
  }) {
    this.#limits = options.limits ?? SHARING;
    this.#pacing = options.pacing;
  }

  get textCount(): number {
    return this.#asking.textCount + this.#bulk.textCount;
  }

  /** Texts of those who ask. */
  get askingCount(): number {
    return this.#asking.textCount;
  }

  /** Whether a full batch waits for its endpoint as others do: who asks meanwhile goes first. */
  get isJustInTime(): boolean {
    return this.#isShared && this.#limits.isJustInTime;
  }

  /** As of `BatchQueue`, of what a caller who asks now would stand behind. */
  get dueMs(): number {
    return this.#asking.dueMs;
  }

  texts(): readonly PendingText[] {
    return [...this.#asking.texts(), ...this.#bulk.texts()];
  }

  /** A request has come; its texts are pushed next. */
  came(
    request: PendingRequest,
    { tokenIds, nowMs }: { tokenIds: readonly Int32Array[]; nowMs: number },
    limits: BackendLimits,
  ): void {
    const { caller } = request;
    if (caller !== this.#lastCaller) this.#otherMs = this.#lastMs;
    this.#lastCaller = caller;
    this.#lastMs = nowMs;
    const otherCount = this.#callers.size - (this.#callers.has(caller) ? 1 : 0);
    const isShared = otherCount > 0 || nowMs - this.#otherMs < PRESENT_MS;
    if (isShared !== this.#isShared) this.#share(isShared, limits);
    if (!isShared) return;
    const own = this.#callers.get(caller) ?? { textCount: 0, tokenCount: 0 };
    const textCount = own.textCount + tokenIds.length;
    const tokenCount = tokenIds.reduce((sum, ids) => sum + ids.length, own.tokenCount);
    request.isBulk = isBulk({ textCount, tokenCount }, limits);
  }

  push(text: PendingText): void {
    if (this.#isShared) this.#count(text, 1);
    this.#queueOf(text.request).push(text);
  }

  /** As `BatchQueue.depart`. */
  depart(request: PendingRequest): void {
    this.#queueOf(request).depart(request);
    const own = this.#callers.get(request.caller);
    if (own === undefined) return;
    own.textCount -= request.queued.textCount;
    own.tokenCount -= request.queued.tokenCount;
    request.queued.textCount = 0;
    request.queued.tokenCount = 0;
    if (own.textCount === 0) this.#callers.delete(request.caller);
  }

  /** As `BatchQueue.remove`. */
  remove(text: PendingText): void {
    if (this.#isShared) this.#count(text, -1);
    this.#queueOf(text.request).remove(text);
  }

  /** As `BatchQueue.draw`. */
  draw(limits: BackendLimits, runningCount: number): PendingText[] {
    const drawn = this.#drawFrom(limits, runningCount);
    if (this.#isShared) for (const text of drawn) this.#count(text, -1);
    return drawn;
  }

  /** The same, of texts that cost no more than `costMax` together; the result may be empty. */
  drawShort(limits: BackendLimits, costMax: number, runningCount: number): PendingText[] {
    const strict = { ...limits, costMax, isStrict: true };
    let drawn = this.#asking.draw(strict, runningCount);
    if (drawn.length === 0) drawn = this.#bulk.draw(strict, runningCount);
    if (this.#isShared) for (const text of drawn) this.#count(text, -1);
    return drawn;
  }

  /** As `BatchQueue.drain`. */
  drain(): PendingText[] {
    this.#callers.clear();
    const texts = [...this.#asking.drain(), ...this.#bulk.drain()];
    for (const { request } of texts) request.queued.textCount = request.queued.tokenCount = 0;
    return texts;
  }

  #drawFrom(limits: BackendLimits, runningCount: number): PendingText[] {
    if (this.#bulk.textCount === 0) {
      this.#aheadCost = 0;
      return this.#asking.draw(limits, runningCount);
    }
    const { launchTokens } = limits;
    const isOwed = this.#aheadCost * this.#pacing.msPerCost > AHEAD_MS;
    if (this.#asking.textCount === 0 || isOwed) {
      const launches = limits.isOneByOne ? Number.POSITIVE_INFINITY : this.#limits.launchesMax - 1;
      const costMax = launches * launchTokens;
      const drawn = this.#bulk.draw({ ...limits, costMax }, runningCount);
      const cost = launchTokens + costOf(drawn, limits);
      this.#aheadCost = Math.max(0, this.#aheadCost - cost);
      return drawn;
    }
    const drawn = this.#asking.draw(limits, runningCount);
    if (drawn.length > 0) {
      this.#aheadCost += launchTokens + costOf(drawn, limits);
      const { backfillPart } = this.#limits;
      backfill(drawn, this.#bulk, { limits, part: backfillPart });
    }
    return drawn;
  }

  /** A second caller has come, or only one is left: all that waits is sorted anew. */
  #share(isShared: boolean, limits: BackendLimits): void {
    const texts = this.drain().sort((a, b) => a.sequence - b.sequence);
    this.#isShared = isShared;
    this.#aheadCost = 0;
    const living = texts.filter(({ request }) => !request.isSettled);
    if (isShared) for (const text of living) this.#count(text, 1);
    for (const text of living) {
      const own = this.#callers.get(text.request.caller);
      text.request.isBulk = own !== undefined && isBulk(own, limits);
      this.#queueOf(text.request).push(text);
    }
  }

  #count({ request, paddedLength }: PendingText, sign: 1 | -1): void {
    const { caller, queued } = request;
    const own = this.#callers.get(caller) ?? { textCount: 0, tokenCount: 0 };
    for (const sum of [own, queued]) {
      sum.textCount += sign;
      sum.tokenCount += sign * paddedLength;
    }
    if (own.textCount === 0) this.#callers.delete(caller);
    else this.#callers.set(caller, own);
  }

  #queueOf({ isBulk }: PendingRequest): BatchQueue<PendingText> {
    return isBulk ? this.#bulk : this.#asking;
  }
}

function isBulk(own: Waiting, limits: BackendLimits): boolean {
  const isSingle = limits.batchTextsMax === 1;
  const textsMax = isSingle ? SINGLE_TEXTS : limits.batchTextsMax;
  const tokensMax = isSingle ? SINGLE_TOKENS : limits.batchTokensMax;
  return own.textCount > ASKING_PART * textsMax || own.tokenCount > ASKING_PART * tokensMax;
}

/** Texts that wait for a batch. */
export interface WaitingTexts {
  readonly waitingTextCount: number;
  /** How far the most urgent one is past its virtual deadline, in ms; 0 when none is. */
  readonly latenessMs: number;
  /** The longest wait of any, in ms; 0 when none waits. */
  readonly oldestWaitMs: number;
  /** How fast they get done. */
  readonly drain: DrainEstimate;
  /** What keeps the backend at work: a full batch in each slot and one that waits, or two texts. */
  readonly fill: { readonly textCount: number; readonly tokenCount: number };
}

/** What waits in a queue, for the admission and the metrics. */
export function waitingIn(
  queue: CallerQueue | BatchQueue<PendingText>,
  { clock, drain, backend }: { clock: Clock; drain: DrainEstimate; backend: Backend },
): WaitingTexts {
  return {
    drain,
    get fill() {
      const { slotCount, batchTokensMax } = backend.capabilities();
      const batchCount = slotCount + 1;
      return { textCount: 2 * batchCount, tokenCount: batchCount * batchTokensMax };
    },
    get waitingTextCount() {
      return queue.textCount;
    },
    get latenessMs() {
      return Math.max(0, clock.now() - queue.dueMs);
    },
    get oldestWaitMs() {
      const nowMs = clock.now();
      return queue.texts().reduce((ms, { arrivedMs }) => Math.max(ms, nowMs - arrivedMs), 0);
    },
  };
}
