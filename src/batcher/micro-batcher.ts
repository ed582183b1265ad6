import type { Backend, BackendLimits } from '../backend/contract.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Lifetime } from '../base/lifetime.ts';
import type { Head } from '../vectors/head.ts';
import type { ExpectedRows } from '../vectors/output-guard.ts';
import { BackendGrace } from './backend-grace.ts';
import { BatchHold } from './batch-hold.ts';
import { paddedLengthOf } from './batch-plan.ts';
import { type BatchReport, reportOf } from './batch-report.ts';
import { createBatchRunner, type Flight } from './batch-runner.ts';
import { DueTimes } from './due-times.ts';
import { PoisonList } from './poison-list.ts';
import { type JobResult, Ticket } from './ticket.ts';
import { type WaitingText, WaitingTexts } from './waiting-texts.ts';

/** The texts of one request, tokenized. */
export interface BatchJob {
  /** Token ids of each text; borrowed until the promise settles. Each has at least one id. */
  readonly texts: readonly Int32Array[];
  /** What to compute. Canonical: equal sets are the same array. At least one. */
  readonly heads: readonly Head[];
  /** At most this many texts of the job ride in one batch. */
  readonly batchTextsMax: number;
  /** Texts of a job that nobody waits for are dropped; a batch of nothing else is given up. */
  readonly lifetime: Lifetime;
}

/** Gathers the texts of many requests into batches. */
export interface MicroBatcher {
  /** Rejects only when the job's lifetime ends first, or after `close`. */
  submit(job: BatchJob): Promise<JobResult>;
  readonly waitingTextCount: number;
  /** By how much the most urgent text that waits is past its due time, in ms; 0 when none is. */
  readonly latenessMs: number;
  /** How long the text has waited that has waited longest, in ms; 0 when none waits. */
  readonly oldestWaitMs: number;
  readonly batchesInFlight: number;
  /** Fails what waits with EMB_SHUTTING_DOWN; batches in flight finish. */
  close(): void;
}

interface QueuedText extends WaitingText {
  readonly ticket: Ticket;
  /** Place of the text in its request. */
  readonly index: number;
  readonly ids: Int32Array;
  readonly arrivedMs: number;
  /** When its batch left; 0 until then. */
  sentMs: number;
}

/**
 * Forms batches from what waits whenever a slot of the backend is free; there is no fixed delay.
 * While all slots are busy the queue grows and the next batch is better.
 *
 * @param options.expected what each row is held against before it leaves.
 * @param options.lingerMs how long a batch that is not full waits for more although a slot is free.
 * @param options.holdShare of a batch's time for which the next one to a busy endpoint is held.
 * @param options.graceMs how long texts wait for a backend that is down; 0, and unless told, not at
 * all.
 * @param options.tokenCountMax padding never passes it.
 */
export function createMicroBatcher(options: {
  backend: Backend;
  expected: ExpectedRows;
  clock: Clock;
  lingerMs: number;
  holdShare?: number;
  graceMs?: number;
  tokenCountMax: number;
  onBatch?: (report: BatchReport) => void;
}): MicroBatcher {
  const {
    backend,
    expected,
    clock,
    lingerMs,
    holdShare = 0,
    graceMs = 0,
    tokenCountMax,
    onBatch,
  } = options;
  const waiting = new WaitingTexts<QueuedText>();
  const inFlight = new Set<Flight<QueuedText>>();
  let runningTextCount = 0;
  const dueTimes = new DueTimes();
  const hold = new BatchHold({ clock, share: holdShare });
  const poison = new PoisonList(clock);
  const grace = new BackendGrace({ backend, clock, graceMs });
  const runner = createBatchRunner<QueuedText>({
    backend,
    expected,
    poison,
    whenReady: () => grace.wait(),
    settle({ ticket, index, arrivedMs, sentMs }, outcome, servedBy) {
      ticket.queueMs = Math.max(ticket.queueMs, sentMs - arrivedMs);
      ticket.inferMs = Math.max(ticket.inferMs, clock.now() - sentMs);
      ticket.put(index, outcome, servedBy);
    },
  });
  let sequence = 0;
  let isDispatchDue = false;
  let isClosed = false;

  function submit(job: BatchJob): Promise<JobResult> {
    const textCount = job.texts.length;
    invariant(textCount > 0, 'a job has at least one text');
    return new Promise((resolve, reject) => {
      const { batchTextsMax } = job;
      const ticket = new Ticket({ textCount, batchTextsMax, resolve, reject });
      if (isClosed) ticket.abandon(shuttingDown());
      job.lifetime.whenEnded((reason) => {
        if (ticket.abandon(reason)) onDeparted(ticket);
      });
      if (ticket.isSettled) return;
      const limits = backend.capabilities();
      enqueue(job, ticket, limits);
      requestDispatch(waiting.textCount >= limits.batchTextsMax ? 0 : lingerMs);
    });
  }

  function enqueue({ texts, heads }: BatchJob, ticket: Ticket, limits: BackendLimits): void {
    const arrivedMs = clock.now();
    // A text that may share its launch with few others of its request is as dear as its part of it.
    const launchShare = limits.launchTokens / ticket.batchTextsMax;
    let dueMs = arrivedMs;
    for (let index = 0; index < texts.length; index++) {
      const ids = texts[index];
      invariant(ids.length > 0, 'a tokenized text has at least one id');
      const verdict = poison.isEmpty ? 'unknown' : poison.judge(ids);
      if (verdict instanceof ServerError) {
        ticket.put(index, verdict, undefined);
        continue;
      }
      const paddedLength = Math.min(paddedLengthOf(ids.length), tokenCountMax);
      dueMs += dueTimes.patienceMs(Math.max(paddedLength, launchShare));
      const order = { dueMs, sequence: sequence++, isAlone: verdict === 'alone' };
      waiting.push({ ticket, index, ids, paddedLength, heads, arrivedMs, sentMs: 0, ...order });
    }
  }

  /**
   * Its texts in the queue are dropped, and a batch that nobody waits for any more is given up
   * where it runs.
   */
  function onDeparted(ticket: Ticket): void {
    waiting.depart(ticket);
    for (const { texts, abort } of inFlight) {
      if (texts.every((text) => text.ticket.isSettled)) abort.abort();
    }
  }

  /** Asks for one dispatch, once this turn's arrivals are all in or after the linger. */
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

  /** The one place that decides what is sent. */
  function dispatch(): void {
    if (waiting.textCount === 0) return;
    const state = grace.look();
    if (state === 'wait') grace.lookAgain(dispatch);
    if (state === 'gone') failWaiting(unavailable(backend.state().reason));
    if (state !== 'ready') return;
    const limits = backend.capabilities();
    while (waiting.textCount > 0 && inFlight.size < limits.slotCount) {
      const isBusy = inFlight.size >= limits.endpointCount;
      const isPartial = waiting.textCount < limits.batchTextsMax;
      if (isBusy && isPartial && !hold.isDue(dispatch)) return;
      const texts = waiting.draw(limits, runningTextCount);
      if (texts.length > 0) void send(texts, limits);
    }
  }

  function failWaiting(error: ServerError): void {
    for (const { ticket, index } of waiting.drain()) ticket.put(index, error, undefined);
  }

  async function send(texts: readonly QueuedText[], limits: BackendLimits): Promise<void> {
    const flight = { texts, abort: new AbortController() };
    const sentMs = clock.now();
    let inferMs = 0;
    // The next batch leaves as soon as its slot is free, so that the backend computes while the
    // replies of this one are written.
    const land = (): void => {
      if (!inFlight.delete(flight)) return;
      runningTextCount -= texts.length;
      inferMs = clock.now() - sentMs;
      hold.returned(inferMs);
      dispatch();
    };
    inFlight.add(flight);
    runningTextCount += texts.length;
    hold.sent();
    for (const text of texts) text.sentMs = sentMs;
    const run = await runner.run(flight, limits, land);
    land();
    const report = reportOf(texts, { ...run, ...limits, inferMs });
    if (run.error === undefined) {
      dueTimes.learn(report.computedTokenCount, report.inferMs);
    }
    onBatch?.(report);
  }

  function close(): void {
    isClosed = true;
    grace.close();
    failWaiting(shuttingDown());
  }

  return {
    submit,
    close,
    get waitingTextCount() {
      return waiting.textCount;
    },
    get latenessMs() {
      return Math.max(0, clock.now() - waiting.dueMs);
    },
    get oldestWaitMs() {
      const nowMs = clock.now();
      return waiting.texts().reduce((ms, { arrivedMs }) => Math.max(ms, nowMs - arrivedMs), 0);
    },
    get batchesInFlight() {
      return inFlight.size;
    },
  };
}

function unavailable(why: string): ServerError {
  return new ServerError('EMB_BACKEND_UNAVAILABLE', 'The backend is down or still loading.', {
    retryAfterMs: 1000,
    cause: new Error(why),
  });
}

function shuttingDown(): ServerError {
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
}
