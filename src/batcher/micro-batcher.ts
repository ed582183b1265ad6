import type { Backend, BackendLimits, Head } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Lifetime } from '../base/lifetime.ts';
import { paddedLengthOf } from './batch-plan.ts';
import { createBatchRunner } from './batch-runner.ts';
import { DueTimes } from './due-times.ts';
import type { ExpectedRows } from './output-faults.ts';
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

/** What became of a batch, for the log and the metrics. */
export interface BatchReport {
  readonly textCount: number;
  readonly paddedLength: number;
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

/** Gathers the texts of many requests into batches. */
export interface MicroBatcher {
  /** Rejects only when the job's lifetime ends first, or after `close`. */
  submit(job: BatchJob): Promise<JobResult>;
  readonly waitingTextCount: number;
  /** By how much the most urgent text that waits is past its due time, in ms; 0 when none is. */
  readonly latenessMs: number;
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

interface BatchInFlight {
  readonly texts: readonly QueuedText[];
  readonly abort: AbortController;
  readonly sentMs: number;
}

/**
 * Forms batches from what waits whenever a slot of the backend is free; there is no fixed delay.
 * While all slots are busy the queue grows and the next batch is better.
 *
 * @param options.expected what each row is held against before it leaves.
 * @param options.lingerMs how long a batch that is not full waits for more although a slot is free.
 * @param options.tokenCountMax padding never passes it.
 */
export function createMicroBatcher(options: {
  backend: Backend;
  expected: ExpectedRows;
  clock: Clock;
  lingerMs: number;
  tokenCountMax: number;
  onBatch?: (report: BatchReport) => void;
}): MicroBatcher {
  const { backend, expected, clock, lingerMs, tokenCountMax, onBatch } = options;
  const waiting = new WaitingTexts<QueuedText>();
  const inFlight = new Set<BatchInFlight>();
  const dueTimes = new DueTimes();
  const poison = new PoisonList(clock);
  const runner = createBatchRunner<QueuedText>({
    backend,
    expected,
    poison,
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
      enqueue(job, ticket);
      requestDispatch(waiting.textCount >= backend.limits().batchTextsMax ? 0 : lingerMs);
    });
  }

  function enqueue({ texts, heads }: BatchJob, ticket: Ticket): void {
    const arrivedMs = clock.now();
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
      dueMs += dueTimes.patienceMs(paddedLength);
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
    const limits = backend.limits();
    while (waiting.textCount > 0 && inFlight.size < limits.slotCount) {
      const texts = waiting.draw(limits);
      if (texts.length > 0) void send(texts, limits);
    }
  }

  async function send(texts: readonly QueuedText[], limits: BackendLimits): Promise<void> {
    const batch = { texts, abort: new AbortController(), sentMs: clock.now() };
    inFlight.add(batch);
    for (const text of texts) text.sentMs = batch.sentMs;
    const { error, rescueCallCount } = await runner.run(texts, limits, batch.abort.signal);
    inFlight.delete(batch);
    report(batch, limits, { error, rescueCallCount });
    dispatch();
  }

  function report(
    { texts, sentMs }: BatchInFlight,
    { isExactLength }: BackendLimits,
    run: { error: ServerError | undefined; rescueCallCount: number },
  ): void {
    const inferMs = clock.now() - sentMs;
    let paddedLength = 0;
    let tokenCount = 0;
    let arrivedMs = sentMs;
    for (const text of texts) {
      const length = isExactLength ? text.ids.length : text.paddedLength;
      paddedLength = Math.max(paddedLength, length);
      tokenCount += text.ids.length;
      arrivedMs = Math.min(arrivedMs, text.arrivedMs);
    }
    if (run.error === undefined) dueTimes.learn(paddedLength * texts.length, inferMs);
    const textCount = texts.length;
    const queueMsMax = sentMs - arrivedMs;
    onBatch?.({ textCount, paddedLength, tokenCount, inferMs, queueMsMax, ...run });
  }

  function close(): void {
    isClosed = true;
    for (const { ticket, index } of waiting.drain()) ticket.put(index, shuttingDown(), undefined);
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
    get batchesInFlight() {
      return inFlight.size;
    },
  };
}

function shuttingDown(): ServerError {
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
}
