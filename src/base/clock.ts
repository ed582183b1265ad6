import { ServerError } from './errors.ts';
import { LinkedList } from './linked-list.ts';

/**
 * Time, as an argument. Nothing else in `src` calls `setTimeout`, `setImmediate` or
 * `performance.now`, so that a test can put a virtual clock in its place. The client, which is a
 * package of its own, has one like it.
 */
export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  now(): number;
  /**
   * Calls `action` once, at least `delayMs` from now. The returned function cancels it; calling
   * that twice is harmless.
   */
  schedule(delayMs: number, action: () => void): () => void;
  /**
   * Calls `action` once what has already arrived in this turn of the event loop has been handled.
   */
  afterTurn(action: () => void): void;
}

/** The machine's own monotonic clock. A scheduled action does not keep the process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, action) {
    const timer = setTimeout(action, notNegative(delayMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
  afterTurn(action) {
    setImmediate(action);
  },
};

/**
 * The same clock for a program that runs to an end: a scheduled action keeps the process alive.
 */
export const foregroundClock: Clock = {
  ...systemClock,
  schedule(delayMs, action) {
    const timer = setTimeout(action, notNegative(delayMs));
    return () => clearTimeout(timer);
  },
};

/**
 * What is past is due at once: a caller's deadline may pass while its request waits for this
 * thread. The runtime would do the same, and write a warning into the log.
 */
function notNegative(delayMs: number): number {
  return Math.max(0, delayMs);
}

/**
 * Keeps the process alive, which scheduled actions do not: for one that only waits for others. The
 * returned function lets it end.
 */
export function stayAlive(): () => void {
  const timer = setInterval(() => undefined, STAY_ALIVE_MS);
  return () => clearInterval(timer);
}

/** The longest that a timer of the system can wait. */
const STAY_ALIVE_MS = 2 ** 31 - 1;

/** Resolves after `delayMs` of `clock`'s time. */
export function sleep(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.schedule(delayMs, resolve);
  });
}

/** Resolves after what has come in by then was looked at, and what was written was sent. */
export function nextTurn(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.afterTurn(resolve));
}

/**
 * Ends the work of a request when nobody waits for it any more: past its deadline, or once its
 * caller has hung up.
 *
 * One cancellation follows a request through the tokenizer, the queue and the batch. Each stage
 * asks whether the request has ended before it does work, and may be told the moment it ends.
 */
export interface Cancellation {
  /** Why nobody waits any more; undefined while somebody does. */
  readonly ended: ServerError | undefined;
  /**
   * Calls `action` once when the request ends; at once if it has. Only the last action given is
   * kept.
   */
  whenEnded(action: (reason: ServerError) => void): void;
  /** The request was answered: timer and listener go, and nothing is called. */
  release(): void;
}

/** What a cancellation's maker has of it: it may end the request for a reason of its own. */
export interface OwnCancellation extends Cancellation {
  /** Without effect once it has ended. */
  end(reason: ServerError): void;
}

/**
 * @param options.timeoutMs the request's whole budget.
 * @param options.signal fires when the caller hangs up.
 */
export function createCancellation(options: {
  clock: Pick<Clock, 'schedule'>;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}): OwnCancellation {
  return new RequestCancellation(options);
}

/** A class, and its own listener, for their speed: each request has one. */
class RequestCancellation implements OwnCancellation {
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #cancelTimer: () => void;
  #action: ((reason: ServerError) => void) | undefined;
  ended: ServerError | undefined;

  constructor({ clock, timeoutMs, signal }: Parameters<typeof createCancellation>[0]) {
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
    this.#cancelTimer = clock.schedule(timeoutMs, () => this.#onTime());
    if (signal?.aborted) this.handleEvent();
    else signal?.addEventListener('abort', this);
  }

  whenEnded(action: (reason: ServerError) => void): void {
    if (this.ended !== undefined) action(this.ended);
    else this.#action = action;
  }

  release(): void {
    this.#cancelTimer();
    this.#signal?.removeEventListener('abort', this);
    this.#action = undefined;
  }

  /** Called by the signal: the caller has hung up. */
  handleEvent(): void {
    const message = 'The caller hung up before the reply.';
    this.end(new ServerError('EMB_REQUEST_ABORTED', message));
  }

  #onTime(): void {
    const limit = Math.ceil(this.#timeoutMs);
    const message = `The request took longer than ${limit} ms.`;
    this.end(new ServerError('EMB_DEADLINE_EXCEEDED', message, { limit }));
  }

  end(reason: ServerError): void {
    if (this.ended !== undefined) return;
    this.ended = reason;
    const last = this.#action;
    this.release();
    last?.(reason);
  }
}

interface Wait {
  readonly dueMs: number;
  readonly action: () => void;
}

/** The waits of one length, in the order in which they began, which is that of their ends. */
interface Group {
  readonly waits: LinkedList<Wait>;
  cancelTimer: () => void;
}

/**
 * Schedules as a clock does, with one timer for all waits of equal length. Nearly all requests
 * have the same deadline and are answered long before it. A timer set and cleared for each costs 2
 * µs, a place in a list a tenth of that.
 */
export class Deadlines implements Pick<Clock, 'schedule'> {
  readonly #clock: Clock;
  readonly #groups = new Map<number, Group>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const wait = { dueMs: this.#clock.now() + delayMs, action };
    const group = this.#groups.get(delayMs) ?? this.#begin(delayMs);
    const link = group.waits.add(wait);
    if (group.waits.size === 1) this.#arm(delayMs, group);
    return () => {
      if (!group.waits.remove(link) || group.waits.size > 0) return;
      group.cancelTimer();
      this.#end(delayMs, group);
    };
  }

  #begin(delayMs: number): Group {
    const group = { waits: new LinkedList<Wait>(), cancelTimer: () => undefined };
    this.#groups.set(delayMs, group);
    return group;
  }

  /** Forgets a group that is empty. An action may have begun another of the same length since. */
  #end(delayMs: number, group: Group): void {
    if (this.#groups.get(delayMs) === group) this.#groups.delete(delayMs);
  }

  /**
   * Sets the timer for the oldest wait; those that were cancelled since only make it come early.
   */
  #arm(delayMs: number, group: Group): void {
    const { first } = group.waits;
    if (first === undefined) {
      this.#end(delayMs, group);
      return;
    }
    group.cancelTimer = this.#clock.schedule(first.item.dueMs - this.#clock.now(), () =>
      this.#onTime(delayMs, group),
    );
  }

  #onTime(delayMs: number, group: Group): void {
    const nowMs = this.#clock.now();
    const { waits } = group;
    for (let link = waits.first; link && link.item.dueMs <= nowMs; link = waits.first) {
      waits.remove(link);
      link.item.action();
    }
    this.#arm(delayMs, group);
  }
}
