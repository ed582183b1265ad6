import type { Backend, BackendLimits } from '../backend/contract.ts';
import { type Cancellation, type Clock, nextTurn } from '../base/clock.ts';
import { backendDown, invariant, ServerError, shuttingDown } from '../base/errors.ts';
import type { RequestTrace } from '../observe/tracing.ts';
import type { ExpectedRows, Head } from '../vectors/output.ts';
import { BACKFILL_PART, BackgroundBudget, type BackgroundLimits } from './background.ts';
import { createBisection, Quarantine, type RunningBatch } from './bisection.ts';
import { CallerQueue, type SharingLimits, type WaitingTexts, waitingIn } from './caller-queue.ts';
import { BackendGrace, DispatchPacing, DrainRate, VirtualDeadlines } from './pacing.ts';
import {
  type BatchReport,
  backfill,
  backgroundCostOf,
  backgroundTokensOf,
  costOf,
  isLarge,
  type JobResult,
  NOT_SENT,
  PendingRequest,
  type PendingText,
  reportOf,
  type TextOutcome,
} from './pending-request.ts';
import { paddedLengthOf, textCostOf } from './plan.ts';
import { BatchQueue } from './queue.ts';
import { keyOf, type RowCache, TextsInFlight } from './row-cache.ts';

/** The texts of one request, tokenized. */
export interface BatchJob {
  /** Token ids of each text; borrowed until the promise settles. Each has at least one id. */
  readonly tokenIds: readonly Int32Array[];
  /** What to compute. Canonical: equal sets are the same array. At least one. */
  readonly heads: readonly Head[];
  /** At most this many texts of the job ride in one batch. */
  readonly batchTextsMax: number;
  /** Once it has ended, the waiting texts are dropped. A batch of such texts alone is given up. */
  readonly cancellation: Cancellation;
  /** Its texts wait for those of all others; `background.ts` says how. Default: false. */
  readonly isBackground?: boolean;
  /** Computes each text for this job alone, and keeps no row of it. Default: false. */
  readonly bypassesCache?: boolean;
  /** Told, before `submit` returns, the tokens of the texts that are computed for this job. */
  readonly planned?: (tokenCount: number) => void;
  /** Whose request it is, as for the admission; undefined is one caller like another. */
  readonly caller?: string | undefined;
  /** Of the request, when it is traced. */
  readonly trace?: RequestTrace | undefined;
}

/** Gathers the texts of many requests into batches. */
export interface MicroBatcher {
  /** Rejects only when the request ends first (`cancellation`), or after `close`. */
  submit(job: BatchJob): Promise<JobResult>;
  /** Texts of the background wait apart from all others. */
  readonly foreground: WaitingTexts;
  readonly background: WaitingTexts;
  readonly batchesInFlight: number;
  /** Texts that went along with an equal one, so far. */
  readonly coalescing: { readonly joinedCount: number };
  /** Fails what waits with EMB_SHUTTING_DOWN; batches in flight finish. */
  close(): void;
}

/** What a batcher is made of; `createMicroBatcher` says what each is. */
export interface BatcherOptions {
  readonly backend: Backend;
  readonly expected: ExpectedRows;
  readonly clock: Clock;
  readonly lingerMs: number;
  readonly holdShare?: number;
  readonly background: BackgroundLimits;
  readonly sharing?: SharingLimits;
  readonly graceMs?: number;
  readonly tokenCountMax: number;
  readonly cache?: RowCache | undefined;
  readonly onBatch?: (report: BatchReport) => void;
}

/**
 * Forms batches from what waits whenever a slot of the backend is free; there is no fixed delay.
 * While all slots are busy the queue grows and the next batch is better.
 *
 * The file tells it in order: `submit` and `enqueue`, `dispatch`, `run`, and then what goes wrong.
 *
 * @param options.expected what each row must be before it leaves.
 * @param options.lingerMs how long a batch that is not full waits for more although a slot is
 * free.
 * @param options.holdShare of a batch's time for which the next one to a busy endpoint is held.
 * @param options.background how much texts of the background may be in the others' way.
 * @param options.sharing the same for several callers.
 * @param options.graceMs how long texts wait for a backend that is down. The default is 0: not at
 * all.
 * @param options.tokenCountMax the longest padded length.
 * @param options.cache of rows that come again; unless told, none are kept.
 */
export function createMicroBatcher(options: BatcherOptions): MicroBatcher {
  const { backend, expected, clock, lingerMs, tokenCountMax, onBatch } = options;
  /** No `Set`: see `LinkedList`. */
  const running: RunningBatch<PendingText>[] = [];
  const [deadlines, drain] = [new VirtualDeadlines(), new DrainRate(clock)];
  const pacing = new DispatchPacing({ clock, share: options.holdShare ?? 0 });
  const queue = new CallerQueue({ pacing, limits: options.sharing });
  const budget = new BackgroundBudget({ clock, pacing, limits: options.background });
  const grace = new BackendGrace({ backend, clock, graceMs: options.graceMs ?? 0 });
  const inFlight = new TextsInFlight({ backend, queueOf, cache: options.cache });
  const [background, quarantine] = [new BatchQueue<PendingText>(), new Quarantine(clock)];
  const whenReady = (): Promise<boolean> => grace.wait();
  const bisection = createBisection({ backend, expected, quarantine, whenReady, settle });
  let runningTextCount = 0;
  /** Batches that are back and whose callers are being told. Their memory is still lent. */
  let settlingCount = 0;
  let sequence = 0;
  let isDispatchDue = false;
  let isClosed = false;

  function submit(job: BatchJob): Promise<JobResult> {
    const textCount = job.tokenIds.length;
    invariant(textCount > 0, 'a job has at least one text');
    return new Promise((resolve, reject) => {
      const { batchTextsMax, isBackground, caller, trace } = job;
      const whose = { textCount, batchTextsMax, isBackground, caller, trace };
      const request = new PendingRequest(whose, resolve, reject);
      if (isClosed) request.abandon(shuttingDown());
      job.cancellation.whenEnded((reason) => {
        if (request.abandon(reason)) onDeparted(request);
      });
      if (request.isSettled) return;
      const limits = backend.capabilities();
      enqueue(job, request, limits);
      const isFull = queueOf(request).textCount >= limits.batchTextsMax;
      requestDispatch(isFull ? 0 : lingerMs);
    });
  }

  function queueOf({ isBackground }: PendingRequest): CallerQueue | BatchQueue<PendingText> {
    return isBackground ? background : queue;
  }

  /** Each text gets its virtual deadline, and a place in the queue unless its row is on its way. */
  function enqueue(job: BatchJob, request: PendingRequest, limits: BackendLimits): void {
    const { tokenIds, heads, bypassesCache = false } = job;
    const cache = bypassesCache ? undefined : options.cache;
    const arrivedMs = clock.now();
    const into = queueOf(request);
    budget.came(request.isBackground, arrivedMs);
    inFlight.renew();
    if (cache !== undefined) request.cachedTextCount = 0;
    if (!request.isBackground) queue.came(request, { tokenIds, nowMs: arrivedMs }, limits);
    // A text costs at least its part of a launch, which only texts of its request may share.
    const launchShare = limits.launchTokens / request.batchTextsMax;
    let dueMs = arrivedMs;
    let tokenCount = 0;
    for (let index = 0; index < tokenIds.length; index++) {
      const ids = tokenIds[index];
      invariant(ids.length > 0, 'a tokenized text has at least one id');
      const verdict = quarantine.isEmpty ? 'unknown' : quarantine.judge(ids);
      if (verdict instanceof ServerError) {
        request.put(index, verdict);
        continue;
      }
      const key = bypassesCache ? 0 : keyOf(ids, heads);
      const known = cache?.find({ key, ids, heads });
      if (known !== undefined) {
        request.putKnown(index, known);
        continue;
      }
      const paddedLength = Math.min(paddedLengthOf(ids.length), tokenCountMax);
      dueMs += deadlines.patienceMs(Math.max(textCostOf(paddedLength, limits), launchShare));
      // Written out: a spread costs more, and this is done for each text.
      const text: PendingText = {
        request,
        index,
        ids,
        paddedLength,
        heads,
        arrivedMs,
        sentMs: NOT_SENT,
        dueMs,
        sequence: sequence++,
        isAlone: verdict === 'alone',
        key,
        along: undefined,
        first: undefined,
        sharesPlace: undefined,
        traces: undefined,
      };
      request.texts.push(text);
      if (!bypassesCache && inFlight.join(text)) continue;
      tokenCount += ids.length;
      into.push(text);
    }
    job.planned?.(tokenCount);
  }

  /** Asks for one dispatch: after the linger, or once all arrivals of this turn are in. */
  function requestDispatch(delayMs: number): void {
    if (delayMs > 0) {
      clock.schedule(delayMs, dispatch);
      return;
    }
    if (isDispatchDue) return;
    isDispatchDue = true;
    clock.afterTurn(() => {
      isDispatchDue = false;
      dispatch();
    });
  }

  /** Fills the free slots. The one place that decides what is sent. */
  function dispatch(): void {
    if (queue.textCount + background.textCount === 0) return;
    const state = grace.look();
    if (state === 'wait') grace.lookAgain(dispatch);
    if (state === 'gone') failWaiting(backendDown(backend.state().reason));
    if (state !== 'ready') return;
    const limits = backend.capabilities();
    // No more batches hold memory of the backend than its slots and one that is being told.
    while (running.length + Math.max(0, settlingCount - 1) < limits.slotCount) {
      const texts = nextBatch(limits);
      if (texts === undefined) break;
      if (texts.length > 0) void run(texts, limits);
    }
    while (hasSpareSlot(limits)) {
      const texts = queue.draw(limits, runningTextCount);
      if (texts.length > 0) void run(texts, limits);
    }
    while (queue.textCount > 0 && isSpareFree(limits)) {
      const texts = queue.drawShort(limits, pacing.besideCostMax, runningTextCount);
      if (texts.length === 0) break;
      void run(texts, limits);
    }
  }

  /** Whether all slots are taken, and not all of the spare ones. */
  function isSpareFree({ slotCount, spareSlotCount = 0 }: BackendLimits): boolean {
    return running.length >= slotCount && running.length < slotCount + spareSlotCount;
  }

  /** Whether one is free for a caller who asks: the slots are not only taken by such. */
  function hasSpareSlot(limits: BackendLimits): boolean {
    if (queue.askingCount === 0 || !isSpareFree(limits)) return false;
    const usedCount = running.length - limits.slotCount;
    let otherCount = 0;
    for (const { texts } of running) {
      const { isBulk, isBackground } = texts[0].request;
      if (isBulk || isBackground) otherCount++;
    }
    return otherCount > usedCount;
  }

  /** Takes a batch out of its queue; undefined when none may leave now. */
  function nextBatch(limits: BackendLimits): PendingText[] | undefined {
    const isBusy = running.length >= limits.endpointCount;
    const isNext = queue.textCount === 0 || (background.textCount > 0 && budget.isOwed());
    const costMax = isNext && background.textCount > 0 ? budget.costMax(limits, isBusy) : undefined;
    if (costMax === undefined && queue.textCount === 0) return undefined;
    const isClose = queue.isJustInTime;
    const isPartial = isClose || costMax !== undefined || queue.textCount < limits.batchTextsMax;
    if (isBusy && isPartial && !pacing.mayLeave(dispatch, isClose)) return undefined;
    if (costMax !== undefined) return background.draw({ ...limits, costMax }, runningTextCount);
    const texts = queue.draw(limits, runningTextCount);
    if (background.textCount > 0) {
      backfill(texts, background, { limits, part: BACKFILL_PART });
    }
    return texts;
  }

  /** One batch, from the slot that it takes to the callers that it answers. */
  async function run(texts: readonly PendingText[], limits: BackendLimits): Promise<void> {
    const abort = new AbortController();
    const batch: RunningBatch<PendingText> = { texts, limits, abort, lent: [] };
    const textsCost = costOf(texts, limits);
    const sentMs = takeSlot(batch, textsCost);
    const before = { batchCount: running.length, isFollowed: queue.textCount > 0 };
    const { isBackground } = texts[0].request;
    const first = await bisection.attempt(batch);
    const isRight = first.failed.length === 0;
    const isTelling = isRight && !first.isSecondTry;
    if (!isRight) {
      budget.failed(batch);
      // Who comes from now on has tries of its own.
      for (const group of first.failed) for (const text of group.texts) inFlight.close(text);
    }
    const rescueCallCount = isRight ? 0 : await bisection.rescue(batch, first);
    const batchCount = (before.batchCount + running.length) / 2;
    const inferMs = freeSlot(batch, { texts, sentMs, isRight, isTelling });
    settlingCount++;
    // The next batch leaves before this one's callers are told: the backend computes while their
    // replies are written.
    dispatch();
    if (isRight) {
      const nowMs = clock.now();
      for (let at = 0; at < texts.length; at++) {
        // Between two large ones a reply is sent, and who comes meanwhile is sent to the backend.
        if (at > 0 && isLarge(first.outputs[at])) await nextTurn(clock);
        settle(texts[at], first.outputs[at], first.servedBy, nowMs);
      }
    }
    for (const giveBack of batch.lent) giveBack();
    settlingCount--;
    if (settlingCount > 0) dispatch();
    const error = first.failed[0]?.error;
    const report = reportOf(texts, { ...limits, inferMs, error, rescueCallCount });
    if (isTelling) deadlines.learn(textsCost, inferMs);
    if (isTelling && before.isFollowed && !isBackground) {
      drain.learn({ tokenCount: report.tokenCount, inferMs, batchCount });
    }
    onBatch?.(report);
  }

  /** @returns when the batch left, in ms. */
  function takeSlot(batch: RunningBatch<PendingText>, textsCost: number): number {
    const sentMs = clock.now();
    const { texts, limits } = batch;
    running.push(batch);
    runningTextCount += texts.length;
    const cost = limits.launchTokens + textsCost;
    const endpointCount = limits.endpointCount + (limits.spareSlotCount ?? 0);
    pacing.sent(batch, { cost, endpointCount });
    const backgroundCost = backgroundCostOf(texts, cost);
    const isBefore = queue.textCount > 0;
    budget.sent(batch, { cost, backgroundCost, textCount: texts.length, isBefore }, limits);
    for (const text of texts) text.sentMs = sentMs;
    return sentMs;
  }

  /** @returns how long the batch had its slot, in ms. */
  function freeSlot(
    batch: RunningBatch<PendingText>,
    end: {
      texts: readonly PendingText[];
      sentMs: number;
      isRight: boolean;
      isTelling: boolean;
    },
  ): number {
    running.splice(running.indexOf(batch), 1);
    runningTextCount -= end.texts.length;
    // A batch that failed or was sent twice tells nothing of the next one.
    pacing.returned(batch, end.isTelling);
    budget.returned(batch, end.isRight ? backgroundTokensOf(end.texts) : 0);
    if (background.textCount === 0) budget.ranOut();
    return clock.now() - end.sentMs;
  }

  function settle(
    text: PendingText,
    outcome: TextOutcome,
    servedBy: string | undefined,
    nowMs = clock.now(),
  ): void {
    const along = inFlight.end(text, outcome, servedBy);
    const { sentMs } = text;
    const by = { servedBy, sentMs, nowMs };
    text.request.putComputed(text, outcome, { ...by, getsHalves: true });
    if (along === undefined) return;
    for (const one of along) one.request.putComputed(one, outcome, { ...by, getsHalves: false });
  }

  /**
   * A caller has left: its waiting texts are dropped or handed on, and a batch that nobody waits
   * for any more is given up where it runs.
   */
  function onDeparted(request: PendingRequest): void {
    for (const text of request.texts) inFlight.leave(text);
    queueOf(request).depart(request);
    if (backend.isUnstoppable) return;
    for (const { texts, abort } of running) {
      if (texts.every((text) => text.request.isSettled)) abort.abort();
    }
  }

  function failWaiting(error: ServerError): void {
    for (const from of [queue, background]) {
      for (const text of from.drain()) {
        const along = inFlight.end(text, error, undefined) ?? [];
        for (const one of [text, ...along]) one.request.put(one.index, error);
      }
    }
  }

  function close(): void {
    isClosed = true;
    grace.close();
    failWaiting(shuttingDown());
  }

  return {
    submit,
    close,
    foreground: waitingIn(queue, { clock, drain, backend }),
    background: waitingIn(background, { clock, drain: budget.drain, backend }),
    get batchesInFlight() {
      return running.length;
    },
    coalescing: inFlight,
  };
}
