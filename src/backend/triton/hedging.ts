import type { Clock } from '../../base/clock.ts';
import type { Head } from '../../vectors/output.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import { BatchCost, STALL_MS } from './endpoint-history.ts';
import type { TritonEndpoint } from './triton-endpoint.ts';

/** No batch is late before, in ms: a turn of our own event loop may take as long. */
const LATE_MS_MIN = 25;

/**
 * Before the time of a batch is known it is late after this, in ms: a first batch loads kernels.
 */
const LATE_MS_UNKNOWN = 1000;

/** Batches with the same heads that have to come back before their time is known. */
const KNOWN_AFTER = 16;

/**
 * Which quantile of the times is late, and never less than so many times what was expected. The
 * expectation itself is a third off where little was measured.
 */
const QUANTILE = 0.95;
const FACTOR_MIN = 3;

/** A time beyond the quantile moves it by a fifth; it settles within some hundred batches. */
const FACTOR_STEP = 0.2;

/** Second tries for each batch that came back, and how many may have been saved up. */
const SHARE_MAX = 1 - QUANTILE;
const SAVED_MAX = 8;

/** One of the two calls of a batch, or its only one. */
export interface Call {
  readonly endpoint: TritonEndpoint;
  readonly output: Promise<BatchOutput>;
  /** Gives it up. What its output lends is given back, should it come all the same. */
  drop(): void;
}

/** How the first call of a batch ended: `overtaken` when the other one was faster. */
type CallEnd = 'answered' | 'overtaken' | 'failed';

/** A first call on its way. */
interface Watched {
  readonly endpoint: TritonEndpoint;
  readonly batch: TokenBatch;
  readonly signal: AbortSignal | undefined;
  readonly sentMs: number;
  /** When its endpoint began with it: when it was sent, or when the batch before it was back. */
  startMs: number;
  /** Expected of it alone, and with what was before it, in ms; undefined while that is unknown. */
  readonly ownMs: number | undefined;
  readonly expectedMs: number | undefined;
  /** It is to be sent again once there is a place. */
  isWaiting: boolean;
  readonly sendAgain: (to: TritonEndpoint) => void;
  cancelLook: () => void;
}

/**
 * Runs a batch on one endpoint, and on another one too when it is late there.
 *
 * @param options.onSecond told the second call, when there is one.
 * @throws the first call's error, once no other call is left.
 */
export type HedgedInfer = (
  first: TritonEndpoint,
  batch: TokenBatch,
  options: { signal: AbortSignal | undefined; onSecond: (second: Call) => void },
) => Promise<BatchOutput>;

/**
 * Hedging: a batch that is late where it was sent is sent to another endpoint too, and the first
 * answer counts (Dean and Barroso, "The Tail at Scale", 2013). A server that was stopped says
 * nothing, nor does a connection that is half open, and many callers wait for one batch.
 *
 *     late = max(25 ms, factor × expected time of the batch and of those before it)
 *
 * where `factor` is the 95th percentile of real / expected times, and at least 3. The load is
 * bounded three times: a second try needs an endpoint that is well, which has answered since or has
 * nothing to do; a free place there; and a twentieth of a try is earned by each batch that comes
 * back. So a fleet that is slow as a whole gets next to nothing twice. Where nobody can take a late
 * batch, its endpoint is asked whether it lives, so that no further callers wait for one that is
 * stopped.
 */
export function createHedging(options: {
  clock: Clock;
  /** The one that would be taken of those that fit. */
  pick: (isFit: (endpoint: TritonEndpoint) => boolean) => TritonEndpoint | undefined;
}): HedgedInfer {
  const { clock, pick } = options;
  /** No `Set`: see `LinkedList`. */
  const watched: Watched[] = [];
  const times = new BatchTimes();
  let savedTries = SAVED_MAX;

  const infer: HedgedInfer = (first, batch, { signal, onSecond }) =>
    new Promise((resolve, reject) => {
      const calls: Call[] = [];
      let failedCount = 0;
      let firstError: unknown;
      let isAnswered = false;
      const sendTo = (endpoint: TritonEndpoint, isFreshConnection: boolean): Call => {
        const call = beginCall(endpoint, batch, { isFreshConnection, signal });
        calls.push(call);
        call.output.then(
          (output) => answered(call, output),
          (error) => failed(call, error),
        );
        return call;
      };
      const only = sendTo(first, false);
      const sendAgain = (other: TritonEndpoint): void => onSecond(sendTo(other, true));
      const end = watch(first, batch, { signal, sendAgain });

      function answered(call: Call, output: BatchOutput): void {
        // Of two that come at once, one was given up by the other.
        if (isAnswered) return;
        isAnswered = true;
        const isFirst = call === only;
        end(isFirst ? 'answered' : 'overtaken');
        for (const other of calls) if (other !== call) other.drop();
        if (!isFirst) first.secondTries.wonCount++;
        resolve(isFirst ? output : { ...output, isSecondTry: true });
      }

      function failed(call: Call, error: unknown): void {
        failedCount++;
        if (call === only) {
          firstError = error;
          end('failed');
        }
        if (failedCount === calls.length) reject(firstError);
      }
    });

  /** Looks after a first call. @returns what to call when it has ended. */
  function watch(
    endpoint: TritonEndpoint,
    batch: TokenBatch,
    how: Pick<Watched, 'signal' | 'sendAgain'>,
  ): (end: CallEnd) => void {
    const sentMs = clock.now();
    const ownMs = times.expectedMs(batch);
    let expectedMs = ownMs;
    for (const before of watched) {
      if (before.endpoint !== endpoint || expectedMs === undefined) continue;
      expectedMs = before.ownMs === undefined ? undefined : expectedMs + before.ownMs;
    }
    const call: Watched = {
      ...{ endpoint, batch, ...how, sentMs, startMs: sentMs, ownMs, expectedMs },
      isWaiting: false,
      cancelLook: () => undefined,
    };
    watched.push(call);
    lookIn(call, times.lateMs(expectedMs));
    return (end) => ended(call, end);
  }

  function lookIn(call: Watched, delayMs: number): void {
    const dueMs = clock.now() + delayMs;
    call.cancelLook = clock.schedule(delayMs, () => {
      // What has arrived during a stall of our own is read after the timers.
      if (clock.now() - dueMs > STALL_MS) lookIn(call, LATE_MS_MIN);
      else look(call);
    });
  }

  /** A call is late: the one place that decides whether its batch is sent again. */
  function look(call: Watched): void {
    const { endpoint, sentMs, signal } = call;
    call.cancelLook();
    call.isWaiting = false;
    if (signal?.aborted) return;
    const isWell = (other: TritonEndpoint): boolean =>
      other !== endpoint &&
      !other.isLate &&
      !other.isSilent &&
      (other.batchesInFlight === 0 || other.answeredMs > sentMs);
    const second = savedTries < 1 ? undefined : pick(isWell);
    if (second === undefined) {
      endpoint.suspectSilence();
      lookIn(call, LATE_MS_MIN);
      return;
    }
    endpoint.noteLate();
    call.isWaiting = second.batchesInFlight >= second.capacity;
    if (call.isWaiting) return;
    savedTries--;
    endpoint.secondTries.sentCount++;
    call.sendAgain(second);
  }

  function ended(call: Watched, end: CallEnd): void {
    const at = watched.indexOf(call);
    if (at < 0) return;
    watched.splice(at, 1);
    call.cancelLook();
    const { endpoint, batch, sentMs, startMs, expectedMs } = call;
    const nowMs = clock.now();
    // One that was overtaken would have taken longer still.
    if (end !== 'failed') times.wereSeen(expectedMs, nowMs - sentMs);
    if (end === 'answered') {
      times.learn(batch, nowMs - startMs);
      savedTries = Math.min(SAVED_MAX, savedTries + SHARE_MAX);
    }
    for (const other of watched) {
      // One that was sent before this one was computed beside it.
      if (other.endpoint === endpoint && other.sentMs > sentMs) other.startMs = nowMs;
      if (other.isWaiting) look(other);
    }
  }

  return infer;
}

/** How long batches take on any endpoint, and by how much that may be too little. */
class BatchTimes {
  /** By heads: equal sets are the same array. */
  readonly #costs = new Map<
    readonly Head[],
    { readonly cost: BatchCost; count: number; tokensMax: number }
  >();
  #factor = FACTOR_MIN;

  /** Undefined until enough batches have come back, and one that was at least half as large. */
  expectedMs({ heads, texts, paddedLength }: TokenBatch): number | undefined {
    const known = this.#costs.get(heads);
    if (known === undefined || known.count < KNOWN_AFTER) return undefined;
    if (texts.length * paddedLength > 2 * known.tokensMax) return undefined;
    return known.cost.expectedMs({ textCount: texts.length, paddedLength });
  }

  lateMs(expectedMs: number | undefined): number {
    if (expectedMs === undefined) return LATE_MS_UNKNOWN;
    return Math.max(LATE_MS_MIN, this.#factor * expectedMs);
  }

  /** @param ms of a batch, without those before it. */
  learn({ heads, texts, paddedLength }: TokenBatch, ms: number): void {
    const known = this.#costs.get(heads) ?? { cost: new BatchCost(), count: 0, tokensMax: 0 };
    this.#costs.set(heads, known);
    known.cost.learn({ textCount: texts.length, paddedLength, ms });
    known.count++;
    known.tokensMax = Math.max(known.tokensMax, texts.length * paddedLength);
  }

  /**
   * Approximates the quantile step by step (Robbins and Monro, 1951): it rests where as much goes
   * up as down.
   */
  wereSeen(expectedMs: number | undefined, ms: number): void {
    if (expectedMs === undefined) return;
    const step = ms > this.#factor * expectedMs ? QUANTILE : QUANTILE - 1;
    this.#factor = Math.max(FACTOR_MIN, this.#factor * Math.exp(FACTOR_STEP * step));
  }
}

/** Begins a call that can be given up without the other one of its batch. */
function beginCall(
  endpoint: TritonEndpoint,
  batch: TokenBatch,
  how: { isFreshConnection: boolean; signal: AbortSignal | undefined },
): Call {
  const { isFreshConnection, signal } = how;
  const own = new AbortController();
  const onAbort = (): void => own.abort();
  signal?.addEventListener('abort', onAbort);
  if (signal?.aborted) onAbort();
  const output = endpoint
    .infer(batch, { isFreshConnection, signal: own.signal })
    .finally(() => signal?.removeEventListener('abort', onAbort));
  return {
    endpoint,
    output,
    drop() {
      own.abort();
      output.then(
        ({ giveBack }) => giveBack?.(),
        () => undefined,
      );
    },
  };
}
