import type { Clock } from '../base/clock.ts';
import { invariant, ServerError, shuttingDown } from '../base/errors.ts';
import { retryAfterMsOf } from '../base/retry-after.ts';
import { HeldRequests, type HoldLimits, sizeClassOf } from './held-requests.ts';
import { RefusedWork } from './refused-work.ts';

/** A place in the queue for one request. */
export interface Permit {
  /** What the model will see is known now: it counts in place of the estimate. */
  tokenized(workTokenCount: number): void;
  /** Gives the place back; called exactly once, in `finally`. */
  release(): void;
}

/** What a request asks for. */
export interface Demand {
  /** At least 1. */
  readonly textCount: number;
  /**
   * What is held until the answer, what will be cut off included. Estimated from the length: what
   * counts is early refusal, not the last token.
   */
  readonly tokenCount: number;
  /** Of the texts, as they lie in memory; 0, unless told. */
  readonly byteCount?: number;
  /** What the model will see of them; all, unless told. */
  readonly workTokenCount?: number;
  /**
   * Whose request it is: the name of a key, an address. Shares are kept between callers; undefined
   * has none.
   */
  readonly caller?: string | undefined;
  /** How long the caller waits, in ms; undefined is as long as any. */
  readonly timeoutMs?: number | undefined;
}

/** What waits behind the admission, as the batcher sees it. */
export interface Backlog {
  readonly waitingTextCount: number;
  /** How far the most urgent waiting text is past its virtual deadline, in ms; 0 when none is. */
  readonly latenessMs: number;
  /** How fast it gets done; while that is not measured it refuses nobody. */
  readonly drain: { readonly tokensPerMs: number; readonly isMeasured: boolean };
  /** What keeps the backend at work: less is never kept from it. */
  readonly fill: { readonly textCount: number; readonly tokenCount: number };
}

/** Refuses work before it is done. */
export interface Admission {
  /**
   * @throws ServerError EMB_QUEUE_FULL when texts or tokens would pass their limit or their
   * caller's share, or when the deadline would pass before the queue has come so far, with the
   * time after which a place is likely; EMB_SHUTTING_DOWN once `close` was called.
   */
  admit(demand: Demand): Permit;
  /**
   * The same, but a request that would be refused may stand before the queue for a while, and so
   * does one behind enough others of its caller and its size. Where there is room, the place is
   * taken at once, and nothing is waited for.
   *
   * @param signal fires when the caller hangs up; EMB_REQUEST_ABORTED then.
   */
  enter(demand: Demand, signal: AbortSignal | undefined): Permit | Promise<Permit>;
  readonly admittedTextCount: number;
  readonly admittedTokenCount: number;
  /** Texts of requests that stand before the queue. */
  readonly heldTextCount: number;
  /** Callers that hold a place. */
  readonly callerCount: number;
  /** Admits nothing more. Resolves when the last permit is back. */
  close(): Promise<void>;
}

/** The part of a deadline that waiting may take; the rest is for the work itself and the reply. */
const WAIT_SHARE = 0.5;

/**
 * The part of the longest deadline in which a caller's requests of one size that are let in
 * together get done. The others stand before the queue, and their deadlines do not run: were all
 * let in, they would share the time, and miss their deadlines together where it gets short.
 */
const ALIKE_SHARE = 0.1;

/**
 * The most that one request counts as, as a part of a limit. So the largest request is within its
 * caller's share once the others hold less than a quarter, and leaves them room. What it holds
 * beyond that is bounded by the limit of its body.
 */
const REQUEST_SHARE = 0.75;

/**
 * How much of what others hold is taken from a caller's share:
 *
 *     share = max - OTHERS_PART × (what others hold)
 *
 * Who is alone may hold all of the limit. Others still find room, up to an eighth beyond it, and
 * as the queue drains each of n callers comes to nearly an nth. This is the dynamic threshold of
 * shared-memory switches (Choudhury and Hahne, 1998), with an eighth of the memory kept for those
 * who come later. Nobody has to be given a share: it follows from what is held.
 */
const OTHERS_PART = 8 / 9;

const NOTHING_WAITS: Backlog = {
  waitingTextCount: 0,
  latenessMs: 0,
  drain: { tokensPerMs: 1, isMeasured: false },
  fill: { textCount: Number.MAX_SAFE_INTEGER, tokenCount: Number.MAX_SAFE_INTEGER },
};

/** What is admitted, of one caller or of all. */
interface Admitted {
  textCount: number;
  tokenCount: number;
  workTokenCount: number;
}

interface CallerAdmitted extends Admitted {
  /** By `sizeClassOf`. Of all together: those without a caller. */
  readonly sizeClasses: Admitted[];
}

/** A limit that a demand would pass. */
interface Lack {
  readonly unit: string;
  readonly limit: number;
  readonly value: number;
}

/**
 * Counts what is admitted and not yet answered, in texts and in tokens. An empty queue admits any
 * single request, and no request counts as all of a limit of tokens, so that the largest allowed
 * request is never refused for ever.
 *
 * @param options.textCountMax what one caller may hold, and likewise `tokenCountMax`; all together
 * an eighth more.
 * @param options.queueName what callers are told is full; `queue`, unless told.
 * @param options.timeoutMs the longest that any caller waits: more than drains in that time is not
 * admitted.
 * @param options.hold what may stand before a full queue, and how long; unless told, nothing.
 */
export function createAdmission(options: {
  clock: Clock;
  textCountMax: number;
  tokenCountMax: number;
  queueName?: string;
  timeoutMs?: number;
  backlog?: Backlog;
  hold?: HoldLimits & { readonly holdMs: number };
}): Admission {
  const { clock, textCountMax, tokenCountMax, backlog = NOTHING_WAITS } = options;
  const { queueName = 'queue', timeoutMs: timeoutMsMax = Number.MAX_SAFE_INTEGER } = options;
  const waitMsMax = Math.floor(timeoutMsMax * WAIT_SHARE);
  const total = noneAdmitted([]);
  const callers = new Map<string, CallerAdmitted>();
  const refused = new RefusedWork(clock);
  const { holdMs, ...holdLimits } = options.hold ?? NO_HOLD;
  const held = new HeldRequests<CountedDemand, Permit>(clock, holdLimits);
  /** Permits of requests that are not tokenized yet. */
  let comingCount = 0;
  let isClosed = false;
  let onEmpty: (() => void) | undefined;

  function admit(asked: Demand): Permit {
    if (isClosed) throw shuttingDown();
    return grantOrRefuse(attainable(asked));
  }

  function enter(asked: Demand, signal: AbortSignal | undefined): Permit | Promise<Permit> {
    if (isClosed) throw shuttingDown();
    const demand = attainable(asked);
    const lack = lackOf(demand);
    if (lack === undefined && !hasManyAlike(demand)) return grant(demand);
    // Half of what the caller waits is for the work.
    const waitMs = Math.min(holdMs, (demand.timeoutMs ?? holdMs / WAIT_SHARE) * WAIT_SHARE);
    if (waitMs <= 0 || !held.hasRoomFor(demand)) return grantOrRefuse(demand);
    const atLast = (): Permit => grantOrRefuse(demand);
    return held.hold(demand, { holdMs: waitMs, signal, atLast });
  }

  function grantIfRoom(demand: CountedDemand): Permit | undefined {
    return lackOf(demand) === undefined && !hasManyAlike(demand) ? grant(demand) : undefined;
  }

  function grantOrRefuse(demand: CountedDemand): Permit {
    const lack = lackOf(demand);
    if (lack !== undefined) throw full(lack, demand);
    return grant(demand);
  }

  /** Whether enough of its caller's requests of its size are in the queue. */
  function hasManyAlike(demand: CountedDemand): boolean {
    const { drain, fill } = backlog;
    const own = demand.caller === undefined ? total : callers.get(demand.caller);
    const alike = own?.sizeClasses[demand.sizeClass];
    if (alike === undefined || alike.textCount === 0) return false;
    if (alike.textCount + demand.textCount <= fill.textCount) return false;
    const work = alike.workTokenCount + demand.workTokenCount;
    if (work <= fill.tokenCount) return false;
    return !drain.isMeasured || work > drain.tokensPerMs * timeoutMsMax * ALIKE_SHARE;
  }

  function grant(demand: CountedDemand): Permit {
    const { caller, textCount, tokenCount, workTokenCount } = demand;
    const own =
      caller === undefined
        ? noneAdmitted(total.sizeClasses)
        : (callers.get(caller) ?? noneAdmitted([]));
    if (caller !== undefined && own.textCount === 0) callers.set(caller, own);
    const alike = own.sizeClasses[demand.sizeClass] ?? nothing();
    own.sizeClasses[demand.sizeClass] = alike;
    const place: Admitted = { textCount, tokenCount, workTokenCount };
    add(total, place, 1);
    add(own, place, 1);
    add(alike, place, 1);
    let isReleased = false;
    let isComing = true;
    comingCount++;
    const arrived = (): void => {
      if (isComing) comingCount--;
      isComing = false;
    };
    return {
      tokenized(workTokenCount) {
        arrived();
        const counted = Math.min(workTokenCount, Math.floor(REQUEST_SHARE * workLimit()));
        const more = counted - place.workTokenCount;
        for (const sum of [total, own, alike, place]) sum.workTokenCount += more;
      },
      release() {
        invariant(!isReleased, 'a permit is released once');
        isReleased = true;
        arrived();
        add(total, place, -1);
        add(own, place, -1);
        add(alike, place, -1);
        if (caller !== undefined && own.textCount === 0) callers.delete(caller);
        held.letIn(grantIfRoom);
        if (total.textCount === 0) onEmpty?.();
      },
    };
  }

  /** The demand as it is counted: capped, so that the largest request can be admitted at all. */
  function attainable(demand: Demand): CountedDemand {
    const { textCount, tokenCount, workTokenCount = tokenCount, byteCount = 0 } = demand;
    const { caller, timeoutMs } = demand;
    return {
      textCount,
      byteCount,
      caller,
      timeoutMs,
      deadlineMs: timeoutMs === undefined ? undefined : clock.now() + timeoutMs,
      sizeClass: sizeClassOf(workTokenCount),
      tokenCount: Math.min(tokenCount, Math.floor(REQUEST_SHARE * tokenCountMax)),
      workTokenCount: Math.min(workTokenCount, Math.floor(REQUEST_SHARE * workLimit())),
    };
  }

  /** Tokens of work that drain within the longest wait; any number while that is not known. */
  function workLimit(): number {
    const { tokensPerMs, isMeasured } = backlog.drain;
    return isMeasured ? tokensPerMs * waitMsMax : Number.MAX_SAFE_INTEGER;
  }

  /** What the demand would pass, in this order; undefined when there is room. */
  function lackOf(demand: CountedDemand): Lack | undefined {
    if (total.textCount === 0) return undefined;
    const { caller } = demand;
    // Without a name there are no shares: all that is held counts as one's own.
    const own = caller === undefined ? total : (callers.get(caller) ?? nothing());
    const lack =
      overShare(demand, own, { unit: 'texts', key: 'textCount', max: textCountMax }) ??
      overShare(demand, own, { unit: 'tokens', key: 'tokenCount', max: tokenCountMax });
    // What was let in and is not tokenized yet will wait, though nothing may wait now.
    if (lack !== undefined || backlog.waitingTextCount + comingCount === 0) return lack;
    return overTime(demand, own);
  }

  /**
   * What other callers hold beyond all of a limit. It was lower when they came, or not known: that
   * is no reason to refuse the first request of somebody else.
   */
  function excessOfOthers(own: Admitted, key: keyof Admitted, max: number): number {
    let excess = 0;
    if (total[key] <= max) return excess;
    for (const other of callers.values()) {
      if (other !== own) excess += Math.max(0, other[key] - max);
    }
    return excess;
  }

  function overShare(
    demand: Admitted,
    own: Admitted,
    { unit, key, max }: { unit: string; key: keyof Admitted; max: number },
  ): Lack | undefined {
    const others = total[key] - own[key] - excessOfOthers(own, key, max);
    const limit = Math.max(0, Math.floor(max - OTHERS_PART * others));
    const value = own[key] + demand[key];
    if (value <= limit) return undefined;
    return { unit: others > 0 ? `${unit} of yours` : unit, limit, value };
  }

  /**
   * What would miss its deadline later is refused now.
   *
   *     drainMs = own work / tokensPerMs,     at most the own share of WAIT_SHARE × longest timeout
   *     latenessMs of the most urgent text,   at most WAIT_SHARE × what is left of the own timeout
   */
  function overTime(demand: CountedDemand, own: Admitted): Lack | undefined {
    const work = { unit: 'tokens of work', key: 'workTokenCount', max: workLimit() } as const;
    const lack = overShare(demand, own, work);
    if (lack !== undefined) {
      const [limit, value] = [lack.limit, lack.value].map(drainMsOf);
      return { unit: 'ms of work', limit, value };
    }
    const leftMs = demand.deadlineMs === undefined ? Infinity : demand.deadlineMs - clock.now();
    const limit = Math.floor(Math.min(leftMs, timeoutMsMax) * WAIT_SHARE);
    const value = Math.ceil(backlog.latenessMs);
    return value > limit ? { unit: 'ms of texts ahead', limit, value } : undefined;
  }

  function drainMsOf(tokenCount: number): number {
    return Math.ceil(tokenCount / backlog.drain.tokensPerMs);
  }

  /**
   * The refusal, with the time after which to come back:
   *
   *     excess = the part of the work that must leave before the demand fits
   */
  function full({ unit, limit, value }: Lack, demand: CountedDemand): ServerError {
    const work = demand.workTokenCount;
    const excess = ((value - limit) / value) * (total.workTokenCount + work);
    const { tokensPerMs } = backlog.drain;
    const retryAfterMs = retryAfterMsOf(
      refused.waitMsOf({ caller: demand.caller, work, excess, tokensPerMs }),
    );
    return new ServerError(
      'EMB_QUEUE_FULL',
      `The ${queueName} is full: ${value} ${unit} would wait, the limit is ${limit}. ` +
        `Come back in ${retryAfterMs} ms.`,
      { limit, value, retryAfterMs },
    );
  }

  return {
    admit,
    enter,
    get heldTextCount() {
      return held.textCount;
    },
    get admittedTextCount() {
      return total.textCount;
    },
    get admittedTokenCount() {
      return total.tokenCount;
    },
    get callerCount() {
      return callers.size;
    },
    close() {
      isClosed = true;
      held.close(shuttingDown());
      if (total.textCount === 0) return Promise.resolve();
      return new Promise((resolve) => {
        onEmpty = resolve;
      });
    },
  };
}

const NO_HOLD = { holdMs: 0, holdTextsMax: 0, holdBytesMax: 0 } as const;

/** A demand as it is counted. */
interface CountedDemand extends Admitted {
  readonly byteCount: number;
  readonly caller: string | undefined;
  readonly sizeClass: number;
  readonly timeoutMs: number | undefined;
  /** When that is over; the server's own timeout begins once it is admitted. */
  readonly deadlineMs: number | undefined;
}

function noneAdmitted(sizeClasses: Admitted[]): CallerAdmitted {
  return { textCount: 0, tokenCount: 0, workTokenCount: 0, sizeClasses };
}

function nothing(): Admitted {
  return { textCount: 0, tokenCount: 0, workTokenCount: 0 };
}

function add(to: Admitted, by: Admitted, sign: 1 | -1): void {
  to.textCount += sign * by.textCount;
  to.tokenCount += sign * by.tokenCount;
  to.workTokenCount += sign * by.workTokenCount;
}
