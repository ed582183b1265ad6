import type { Backend, BackendLimits } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { ServerError, toServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Lifetime } from '../base/lifetime.ts';
import { paddedLengthOf, planBatch } from './batch-plan.ts';
import { DueTimes } from './due-times.ts';
import { Lane } from './lane.ts';

/** The texts of one request, tokenized. */
export interface BatchJob {
  /** Token ids of each text; borrowed until the promise settles. Each has at least one id. */
  readonly texts: readonly Int32Array[];
  /** At most this many texts of the job ride in one batch. */
  readonly batchTextsMax: number;
  /** Texts of a job that nobody waits for are dropped when they are drawn. */
  readonly lifetime: Lifetime;
}

/** One text's row, a view of `[dimension]` float32 in its batch's output; or why it has none. */
export type TextOutcome = { readonly dense: Float32Array } | ServerError;

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
  /** Resolves once with one outcome for each text, in order. Rejects only when the lifetime ends first. */
  submit(job: BatchJob): Promise<readonly TextOutcome[]>;
  readonly waitingTextCount: number;
  readonly batchesInFlight: number;
  /** Fails what waits with EMB_SHUTTING_DOWN; batches in flight finish. */
  close(): void;
}

interface Ticket {
  readonly job: BatchJob;
  readonly outcomes: TextOutcome[];
  openCount: number;
  isSettled: boolean;
  resolve(outcomes: readonly TextOutcome[]): void;
}

interface WaitingText {
  readonly ticket: Ticket;
  readonly index: number;
  readonly ids: Int32Array;
  readonly paddedLength: number;
  readonly dueMs: number;
  readonly sequence: number;
  readonly arrivedMs: number;
}

/** Texts over a job's `batchTextsMax` that are set aside while one batch is drawn, as a multiple of its size. */
const HELD_BACK_FACTOR = 4;

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
  /** By ascending padded length; a lane that runs empty is taken out. */
  const lanes: Lane<WaitingText>[] = [];
  let waitingTextCount = 0;
  let batchesInFlight = 0;
  let sequence = 0;
  const dueTimes = new DueTimes();
  let isDispatchDue = false;
  let isClosed = false;

  function submit(job: BatchJob): Promise<readonly TextOutcome[]> {
    invariant(job.texts.length > 0, 'a job has at least one text');
    return new Promise((resolve, reject) => {
      const ticket: Ticket = {
        job,
        outcomes: new Array(job.texts.length),
        openCount: job.texts.length,
        isSettled: false,
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
      enqueue(ticket);
      requestDispatch(waitingTextCount >= backend.limits().batchTextsMax ? 0 : lingerMs);
    });
  }

  function enqueue(ticket: Ticket): void {
    const arrivedMs = clock.now();
    let dueMs = arrivedMs;
    for (let index = 0; index < ticket.job.texts.length; index++) {
      const ids = ticket.job.texts[index];
      invariant(ids.length > 0, 'a tokenized text has at least one id');
      const paddedLength = Math.min(paddedLengthOf(ids.length), tokenCountMax);
      dueMs += dueTimes.patienceMs(paddedLength);
      const order = { dueMs, arrivedMs, sequence: sequence++ };
      laneOf(paddedLength).push({ ticket, index, ids, paddedLength, ...order });
      waitingTextCount++;
    }
  }

  function laneOf(paddedLength: number): Lane<WaitingText> {
    let at = lanes.length;
    while (at > 0 && lanes[at - 1].paddedLength > paddedLength) at--;
    if (at > 0 && lanes[at - 1].paddedLength === paddedLength) return lanes[at - 1];
    const lane = new Lane<WaitingText>(paddedLength);
    lanes.splice(at, 0, lane);
    return lane;
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
    while (waitingTextCount > 0 && batchesInFlight < limits.slotCount) {
      const batch = draw(limits);
      if (batch.length > 0) void send(batch, limits);
    }
  }

  /** Takes the planned texts out of their lanes. Those that nobody waits for are dropped on the way. */
  function draw(limits: BackendLimits): WaitingText[] {
    const drawn: WaitingText[] = [];
    const heldBack: WaitingText[] = [];
    const countByTicket = new Map<Ticket, number>();
    const heldBackMax = limits.batchTextsMax * HELD_BACK_FACTOR;
    for (const { laneIndex, textCount } of planBatch(lanes, limits).draws) {
      for (let wanted = textCount; wanted > 0 && heldBack.length < heldBackMax; ) {
        const text = lanes[laneIndex].pop();
        if (text === undefined) break;
        const count = countByTicket.get(text.ticket) ?? 0;
        if (text.ticket.isSettled) {
          waitingTextCount--;
        } else if (count >= text.ticket.job.batchTextsMax) {
          heldBack.push(text);
        } else {
          countByTicket.set(text.ticket, count + 1);
          waitingTextCount--;
          wanted--;
          drawn.push(text);
        }
      }
    }
    for (const text of heldBack) laneOf(text.paddedLength).push(text);
    for (let at = lanes.length; at-- > 0; ) if (lanes[at].textCount === 0) lanes.splice(at, 1);
    return drawn;
  }

  async function send(texts: readonly WaitingText[], limits: BackendLimits): Promise<void> {
    batchesInFlight++;
    const sentMs = clock.now();
    const longest = texts.reduce((length, text) => Math.max(length, text.ids.length), 0);
    const sharedLength = texts.reduce((length, text) => Math.max(length, text.paddedLength), 0);
    const paddedLength = limits.isExactLength ? longest : sharedLength;
    let error: ServerError | undefined;
    try {
      const output = await backend.infer({ texts: texts.map((text) => text.ids), paddedLength });
      const dimension = output.dense.length / texts.length;
      invariant(Number.isInteger(dimension) && dimension > 0, 'a batch output has one row a text');
      for (let row = 0; row < texts.length; row++) {
        const dense = output.dense.subarray(row * dimension, (row + 1) * dimension);
        settle(texts[row], { dense });
      }
    } catch (thrown) {
      error = toServerError(thrown);
      for (const text of texts) settle(text, error);
    }
    batchesInFlight--;
    const inferMs = clock.now() - sentMs;
    if (error === undefined) dueTimes.learn(paddedLength * texts.length, inferMs);
    onBatch?.({
      textCount: texts.length,
      paddedLength,
      tokenCount: texts.reduce((sum, text) => sum + text.ids.length, 0),
      inferMs,
      queueMsMax: sentMs - texts.reduce((ms, text) => Math.min(ms, text.arrivedMs), sentMs),
      error,
    });
    dispatch();
  }

  function settle(text: WaitingText, outcome: TextOutcome): void {
    const { ticket } = text;
    ticket.outcomes[text.index] = outcome;
    ticket.openCount--;
    if (ticket.openCount > 0 || ticket.isSettled) return;
    ticket.isSettled = true;
    ticket.resolve(ticket.outcomes);
  }

  function close(): void {
    isClosed = true;
    for (const lane of lanes.splice(0)) {
      for (let text = lane.pop(); text !== undefined; text = lane.pop())
        settle(text, shuttingDown());
    }
    waitingTextCount = 0;
  }

  return {
    submit,
    close,
    get waitingTextCount() {
      return waitingTextCount;
    },
    get batchesInFlight() {
      return batchesInFlight;
    },
  };
}

function shuttingDown(): ServerError {
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
}
