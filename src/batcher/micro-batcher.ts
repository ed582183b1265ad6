import type { Backend, BackendLimits, Head } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Lifetime } from '../base/lifetime.ts';
import { paddedLengthOf } from './batch-plan.ts';
import { DueTimes } from './due-times.ts';
import { outputsOfTexts, type TextOutput } from './text-output.ts';
import { type WaitingText, WaitingTexts } from './waiting-texts.ts';

/** The texts of one request, tokenized. */
export interface BatchJob {
  /** Token ids of each text; borrowed until the promise settles. Each has at least one id. */
  readonly texts: readonly Int32Array[];
  /** What to compute. Canonical: equal sets are the same array. At least one. */
  readonly heads: readonly Head[];
  /** At most this many texts of the job ride in one batch. */
  readonly batchTextsMax: number;
  /** Texts of a job that nobody waits for are dropped when they are drawn. */
  readonly lifetime: Lifetime;
}

/** What one text got, or why it got nothing. */
export type TextOutcome = TextOutput | ServerError;

/** What became of a job. */
export interface JobResult {
  /** One for each text, in order. */
  readonly outcomes: readonly TextOutcome[];
  /** The longest wait of any of its texts, and the longest batch that one rode in. */
  readonly queueMs: number;
  readonly inferMs: number;
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
  readonly error: ServerError | undefined;
}

/** Gathers the texts of many requests into batches. */
export interface MicroBatcher {
  /** Rejects only when the job's lifetime ends first, or after `close`. */
  submit(job: BatchJob): Promise<JobResult>;
  readonly waitingTextCount: number;
  readonly batchesInFlight: number;
  /** Fails what waits with EMB_SHUTTING_DOWN; batches in flight finish. */
  close(): void;
}

interface Ticket {
  readonly outcomes: TextOutcome[];
  readonly batchTextsMax: number;
  openCount: number;
  isSettled: boolean;
  queueMs: number;
  inferMs: number;
  resolve(result: JobResult): void;
}

interface QueuedText extends WaitingText {
  readonly ticket: Ticket;
  /** Place of the text in its request. */
  readonly index: number;
  readonly ids: Int32Array;
  readonly arrivedMs: number;
}

/**
 * Forms batches from what waits whenever a slot of the backend is free; there is no fixed delay. While all slots are busy
 * the queue grows and the next batch is better.
 *
 * @param options.lingerMs how long a batch that is not full waits for more although a slot is free.
 * @param options.tokenCountMax padding never passes it.
 */
export function createMicroBatcher(options: {
  backend: Backend;
  clock: Clock;
  lingerMs: number;
  tokenCountMax: number;
  onBatch?: (report: BatchReport) => void;
}): MicroBatcher {
  const { backend, clock, lingerMs, tokenCountMax, onBatch } = options;
  const waiting = new WaitingTexts<QueuedText>();
  let batchesInFlight = 0;
  let sequence = 0;
  const dueTimes = new DueTimes();
  let isDispatchDue = false;
  let isClosed = false;

  function submit(job: BatchJob): Promise<JobResult> {
    invariant(job.texts.length > 0, 'a job has at least one text');
    return new Promise((resolve, reject) => {
      const ticket: Ticket = {
        batchTextsMax: job.batchTextsMax,
        outcomes: new Array(job.texts.length),
        openCount: job.texts.length,
        isSettled: false,
        queueMs: 0,
        inferMs: 0,
        resolve,
      };
      job.lifetime.whenEnded((reason) => {
        if (ticket.isSettled) return;
        ticket.isSettled = true;
        reject(reason);
      });
      if (ticket.isSettled) return;
      if (isClosed) {
        reject(shuttingDown());
        return;
      }
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
      const paddedLength = Math.min(paddedLengthOf(ids.length), tokenCountMax);
      dueMs += dueTimes.patienceMs(paddedLength);
      const order = { dueMs, sequence: sequence++ };
      waiting.push({ ticket, index, ids, paddedLength, heads, arrivedMs, ...order });
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
    while (waiting.textCount > 0 && batchesInFlight < limits.slotCount) {
      const texts = waiting.draw(limits);
      if (texts.length > 0) void send(texts, limits);
    }
  }

  async function send(texts: readonly QueuedText[], limits: BackendLimits): Promise<void> {
    batchesInFlight++;
    const sentMs = clock.now();
    const ids = texts.map((text) => text.ids);
    const lengths = limits.isExactLength
      ? ids.map((row) => row.length)
      : texts.map((text) => text.paddedLength);
    const paddedLength = Math.max(...lengths);
    const batch = { texts: ids, paddedLength, heads: texts[0].heads };
    let outputs: readonly TextOutput[] = [];
    let error: ServerError | undefined;
    try {
      outputs = outputsOfTexts(batch, await backend.infer(batch));
    } catch (thrown) {
      error = toServerError(thrown);
    }
    batchesInFlight--;
    const inferMs = clock.now() - sentMs;
    for (let row = 0; row < texts.length; row++) {
      const { ticket, arrivedMs } = texts[row];
      ticket.queueMs = Math.max(ticket.queueMs, sentMs - arrivedMs);
      ticket.inferMs = Math.max(ticket.inferMs, inferMs);
      settle(texts[row], error ?? outputs[row]);
    }
    if (error === undefined) dueTimes.learn(paddedLength * texts.length, inferMs);
    onBatch?.({
      textCount: texts.length,
      paddedLength,
      tokenCount: ids.reduce((sum, row) => sum + row.length, 0),
      inferMs,
      queueMsMax: sentMs - Math.min(...texts.map((text) => text.arrivedMs)),
      error,
    });
    dispatch();
  }

  function settle(text: QueuedText, outcome: TextOutcome): void {
    const { ticket } = text;
    ticket.outcomes[text.index] = outcome;
    ticket.openCount--;
    if (ticket.openCount > 0 || ticket.isSettled) return;
    ticket.isSettled = true;
    ticket.resolve(ticket);
  }

  function close(): void {
    isClosed = true;
    for (const text of waiting.drain()) settle(text, shuttingDown());
  }

  return {
    submit,
    close,
    get waitingTextCount() {
      return waiting.textCount;
    },
    get batchesInFlight() {
      return batchesInFlight;
    },
  };
}

function shuttingDown(): ServerError {
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
}
