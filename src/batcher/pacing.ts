import type { Backend } from '../backend/contract.ts';
import { type Clock, sleep } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

/** Weight of the newest batch in the expected time: it settles within some ten batches. */
const TIME_WEIGHT = 0.2;
/**
 * What the expected time may be too long by, and what it takes to bring a batch to its endpoint.
 */
const LATE_SHARE = 0.15;
const LATE_MS = 5;
/**
 * The same where what leaves early costs another caller its wait: cut close. An endpoint that rests
 * for a ms loses less than a query that waits for one more batch.
 */
const CLOSE_SHARE = 0.05;
const CLOSE_MS = 2;

/** What is left of a batch until it is back, whatever was expected. */
const REMAINING_MIN = 0.25;

/**
 * A text runs beside others that take eight times as long: they end an eighth later at most, and it
 * need not wait for them.
 */
const BESIDE_SHARE = 1 / 8;
/** What is back sooner than this is waited for, in ms: nobody notices. */
const BESIDE_MS_MIN = 250;
/** The same before any batch came back, in tokens of a short text: two of a small model's texts. */
const BESIDE_COST_MIN = 1024;

/** A batch in flight. */
interface Flight {
  readonly batch: object;
  readonly cost: number;
  /** When its endpoint began with it; undefined while it waits behind another. */
  startMs: number | undefined;
}

/**
 * Dispatch pacing: holds back a batch that would only wait behind another one.
 *
 * An endpoint computes one batch at a time; a second one in flight keeps it fed. Sent at once, the
 * second batch carries the two or three texts of one turn of the event loop, and costs a launch.
 * Sent later, it carries what has arrived meanwhile, and still comes in time. Sent last of all, it
 * is a query that has come meanwhile, and not the document that waited before it:
 *
 *     earliest departure = start + max(share × time, 85 % of time - 5 ms)
 *
 * and among several callers 95 % of time - 2 ms,
 * where `start` and expected `time` are those of the batch that the endpoint computes. A lone text
 * is never held, since no batch is in flight before it.
 */
export class DispatchPacing {
  readonly #clock: Clock;
  readonly #share: number;
  /** In the order in which they were sent. */
  readonly #flights: Flight[] = [];
  #msPerCost = 0;
  #isHolding = false;

  /** @param options.share of a batch's expected time; 0 holds nothing. */
  constructor(options: { clock: Clock; share: number }) {
    this.#clock = options.clock;
    this.#share = options.share;
  }

  /**
   * A batch has left.
   *
   * @param options.cost of the batch and its launch, in tokens of a short text.
   * @param options.endpointCount how many batches are computed at once.
   */
  sent(batch: object, options: { cost: number; endpointCount: number }): void {
    const isAtOnce = this.#flights.length < options.endpointCount;
    const startMs = isAtOnce ? this.#clock.now() : undefined;
    this.#flights.push({ batch, cost: options.cost, startMs });
  }

  /**
   * A batch came back; one behind it is computed now.
   *
   * @param isRight whether its time tells anything: one that failed was given up at some time.
   */
  returned(batch: object, isRight: boolean): void {
    const at = this.#flights.findIndex((flight) => flight.batch === batch);
    if (at < 0) return;
    const [flight] = this.#flights.splice(at, 1);
    if (flight.startMs === undefined) return;
    const nowMs = this.#clock.now();
    if (isRight) {
      const seen = (nowMs - flight.startMs) / flight.cost;
      const weight = this.#msPerCost === 0 ? 1 : TIME_WEIGHT;
      this.#msPerCost += weight * (seen - this.#msPerCost);
    }
    for (const next of this.#flights) {
      if (next.startMs !== undefined) continue;
      next.startMs = nowMs;
      return;
    }
  }

  /**
   * Whether a batch may leave although every endpoint is busy. If not, `action` is called when it
   * may.
   *
   * @param isClose as late as can be: another caller may come before it.
   */
  mayLeave(action: () => void, isClose = false): boolean {
    const remainingMs = this.#earliestMs(isClose) - this.#clock.now();
    if (!(remainingMs > 0)) return true;
    if (this.#isHolding) return false;
    this.#isHolding = true;
    this.#clock.schedule(remainingMs, () => {
      this.#isHolding = false;
      action();
    });
    return false;
  }

  /** Time of a batch for each token of its cost, as seen of late; a guess until one came back. */
  get msPerCost(): number {
    return this.#msPerCost === 0 ? 1 / COST_RATE_GUESS : this.#msPerCost;
  }

  /**
   * What is expected to be left of a batch in flight, in tokens of a short text: all of it until it
   * is computed. A part is always left, since an expectation is not a promise.
   */
  remainingCost(batch: object): number {
    const flight = this.#flights.find((one) => one.batch === batch);
    if (flight === undefined) return 0;
    const { cost, startMs } = flight;
    if (startMs === undefined || this.#msPerCost === 0) return cost;
    const doneCost = (this.#clock.now() - startMs) / this.#msPerCost;
    return Math.max(cost - doneCost, REMAINING_MIN * cost);
  }

  /**
   * What a text may cost to run beside all batches in flight, where it would wait for them: an
   * eighth of what is left of the shortest. 0 when that one is back in a moment.
   */
  get besideCostMax(): number {
    let leftCost = Number.POSITIVE_INFINITY;
    for (const { batch } of this.#flights) {
      leftCost = Math.min(leftCost, this.remainingCost(batch));
    }
    const isKnown = this.#msPerCost > 0;
    const isLong = isKnown
      ? leftCost * this.#msPerCost >= BESIDE_MS_MIN
      : leftCost >= BESIDE_COST_MIN;
    return isLong ? BESIDE_SHARE * leftCost : 0;
  }

  /** When the first endpoint needs its next batch. */
  #earliestMs(isClose: boolean): number {
    let earliestMs = Number.POSITIVE_INFINITY;
    for (const { cost, startMs } of this.#flights) {
      if (startMs === undefined) continue;
      earliestMs = Math.min(earliestMs, startMs + this.#holdMs(cost * this.#msPerCost, isClose));
    }
    return earliestMs === Number.POSITIVE_INFINITY ? 0 : earliestMs;
  }

  #holdMs(expectedMs: number, isClose: boolean): number {
    if (this.#share === 0) return 0;
    const [share, ms] = isClose ? [CLOSE_SHARE, CLOSE_MS] : [LATE_SHARE, LATE_MS];
    return Math.max(this.#share * expectedMs, (1 - share) * expectedMs - ms);
  }
}

/** How often a backend that is down is asked for its state, in ms: short beside a restart. */
const POLL_MS = 20;

/**
 * How long admitted texts wait for a backend that went down after their admission. No caller need
 * notice a restart, and none waits for a backend that stays away.
 */
export class BackendGrace {
  readonly #backend: Backend;
  readonly #clock: Clock;
  readonly #graceMs: number;
  #downSinceMs: number | undefined;
  #isPolling = false;
  #isClosed = false;

  constructor(options: { backend: Backend; clock: Clock; graceMs: number }) {
    this.#backend = options.backend;
    this.#clock = options.clock;
    this.#graceMs = options.graceMs;
  }

  /** Ready; down, but not for long; or down for longer than anybody should wait. */
  look(): 'ready' | 'wait' | 'gone' {
    if (this.#backend.state().isReady) {
      this.#downSinceMs = undefined;
      return 'ready';
    }
    this.#downSinceMs ??= this.#clock.now();
    const isOver = this.#clock.now() - this.#downSinceMs >= this.#graceMs;
    return this.#isClosed || isOver ? 'gone' : 'wait';
  }

  /** Calls `action` once after a while, however often it is called meanwhile. */
  lookAgain(action: () => void): void {
    if (this.#isPolling) return;
    this.#isPolling = true;
    this.#clock.schedule(POLL_MS, () => {
      this.#isPolling = false;
      action();
    });
  }

  /** @returns whether the backend is ready, at once if it is, or came back in time. */
  async wait(): Promise<boolean> {
    for (let state = this.look(); state !== 'ready'; state = this.look()) {
      if (state === 'gone') return false;
      await sleep(this.#clock, POLL_MS);
    }
    return true;
  }

  close(): void {
    this.#isClosed = true;
  }
}

/** How fast the backend gets through what waits. */
export interface DrainEstimate {
  /** Real tokens, padding not counted; a guess until something was measured. */
  readonly tokensPerMs: number;
  /** Whether it was seen, and not too long ago. Only then may it refuse anybody. */
  readonly isMeasured: boolean;
}

/**
 * Work that would take so many times its deadline, if nothing else were there, is not begun. The
 * speed that was measured is of a time when others may have had a part of the machine.
 */
const LATE_FACTOR = 2;

/** Tokens that are tried at any speed: a query. */
const TRIED_TOKENS = 256;

/** Why there is too much work for its deadline; undefined when there is not, or nobody knows. */
export function whyTooMuch(
  drain: DrainEstimate,
  { tokenCount, timeoutMs: limit }: { tokenCount: number; timeoutMs: number },
): ServerError | undefined {
  if (tokenCount < TRIED_TOKENS) return undefined;
  const value = Math.ceil(tokenCount / drain.tokensPerMs);
  if (value <= LATE_FACTOR * limit || !drain.isMeasured) return undefined;
  return new ServerError(
    'EMB_DEADLINE_EXCEEDED',
    `The request would take ${value} ms at the present speed, the limit is ${limit} ms. ` +
      'Send fewer texts at a time.',
    { limit, value },
  );
}

/**
 * Busy time after which a measurement counts, in ms: several batches of the slowest backend we
 * know.
 */
const SPAN_MS = 500;

/** Weight of the newest span: load that changes is followed within some two seconds. */
const SPAN_WEIGHT = 0.4;

/** Tokens a ms before anything was measured: what one CPU core does with the smallest model. */
const RATE_GUESS = 5;

/**
 * The smallest rate, so that `tokens / rate` stays finite: a tenth of what two cores do with a
 * large model, one text at a time. A real rate replaces it within two spans.
 */
const RATE_MIN = 0.005;

/** How long a measurement holds, in ms: after a pause the backend may be another one. */
const FORGET_MS = 30_000;

/**
 * How fast work is done while more of it waits, in tokens a ms.
 *
 * Only work that was done tells of it. A batch that failed or was given up adds neither tokens nor
 * time, and callers who leave change nothing: the backend was no slower for them. A batch behind
 * which nothing waits is as small as its callers made it, and does not count either.
 *
 *     span = Σ tokens / Σ (inferMs / batches beside each other), over at least SPAN_MS
 *     rate = rate + SPAN_WEIGHT × (span - rate)
 */
export class DrainRate implements DrainEstimate {
  readonly #clock: Clock;
  #tokensPerMs = RATE_GUESS;
  #spanTokens = 0;
  #spanMs = 0;
  /** When something was last measured. */
  #measuredMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get tokensPerMs(): number {
    return this.#tokensPerMs;
  }

  get isMeasured(): boolean {
    return this.#clock.now() - this.#measuredMs < FORGET_MS;
  }

  /**
   * A batch came back right while more work waited.
   *
   * @param batch.batchCount how many batches ran meanwhile, itself included.
   */
  learn(batch: { tokenCount: number; inferMs: number; batchCount: number }): void {
    this.#spanTokens += batch.tokenCount;
    this.#spanMs += batch.inferMs / batch.batchCount;
    if (this.#spanMs < SPAN_MS) return;
    const seen = this.#spanTokens / this.#spanMs;
    const weight = this.isMeasured ? SPAN_WEIGHT : 1;
    const rate = this.#tokensPerMs + weight * (seen - this.#tokensPerMs);
    this.#tokensPerMs = Math.max(rate, RATE_MIN);
    this.#measuredMs = this.#clock.now();
    this.#spanTokens = 0;
    this.#spanMs = 0;
  }
}

/**
 * The number of bulk requests that run before a single query has to queue, about. It is the share
 * of the backend that a request is promised: one part in sixteen.
 */
const PATIENCE = 16;

/** Padded tokens a ms before any measurement: a middling GPU. It sets only the first deadlines. */
const COST_RATE_GUESS = 100;

/**
 * Weight of the newest batch in the measured rate: it settles, and forgets a stall, in ten
 * batches.
 */
const RATE_WEIGHT = 0.2;

/** What a batch counts as having taken at least, in ms: less is the clock's grain, not a rate. */
const INFER_MS_MIN = 0.1;

/**
 * Gives each text its virtual deadline; the queue serves the earliest first.
 *
 * This is weighted fair queueing (Demers, Keshav and Shenker, 1989; Parekh and Gallager, 1993):
 * earliest virtual finish first. A request is a flow, and its texts are the packets:
 *
 *     finish(i) = finish(i - 1) + PATIENCE × cost(i) / rate,   finish(-1) = arrival
 *
 * Each flow is promised a fixed share of the rate, so virtual time is the clock itself and no
 * flows are counted (as in Zhang's Virtual Clock, 1990). So a short query passes a long document,
 * a request of thousands of texts is interleaved with the rest, and no text starves: deadlines of
 * later arrivals lie ever later.
 */
export class VirtualDeadlines {
  #tokensPerMs = COST_RATE_GUESS;

  /**
   * What a text adds to the deadline before it, in ms.
   *
   * @param cost in tokens of a short text, as `textCostOf` gives it.
   */
  patienceMs(cost: number): number {
    return (PATIENCE * cost) / this.#tokensPerMs;
  }

  /** Learns from a batch that came back right: its cost, and how long it took. */
  learn(cost: number, inferMs: number): void {
    const seen = cost / Math.max(inferMs, INFER_MS_MIN);
    this.#tokensPerMs += RATE_WEIGHT * (seen - this.#tokensPerMs);
  }
}
