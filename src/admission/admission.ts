import type { Clock } from '../base/clock.ts';
import { invariant, ServerError } from '../base/errors.ts';
import { retryAfterMsOf } from '../base/retry-after.ts';

/** A place in the queue for one request. */
export interface Permit {
  /**
   * Gives the place back; called exactly once, in `finally`.
   *
   * @param isWorked false when the work was not done, because the caller left, or because it was
   * refused or failed: that tells nothing of how fast work is done.
   */
  release(isWorked?: boolean): void;
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
}

/** Refuses work before it is done. */
export interface Admission {
  /**
   * @throws ServerError EMB_QUEUE_FULL when texts or tokens would pass their limit or their
   * caller's share, or when the deadline would pass before the queue has come so far, with the
   * time after which a place is likely; EMB_SHUTTING_DOWN once `close` was called.
   */
  admit(demand: Demand): Permit;
  readonly admittedTextCount: number;
  readonly admittedTokenCount: number;
  /** Callers that hold a place. */
  readonly callerCount: number;
  /** Admits nothing more. Resolves when the last permit is back. */
  close(): Promise<void>;
}

/** The part of a deadline that waiting may take; the rest is for the work itself and the reply. */
const WAIT_SHARE = 0.5;

/**
 * The most that one request counts as, as a part of the token limit. So the largest request is
 * within its caller's share once the others hold less than a seventh, and leaves them room. What
 * it holds beyond that is bounded by the limit of its body.
 */
const REQUEST_SHARE = 0.75;

/** The width of the spread of Retry-After: callers refused together must not return together. */
const SPREAD = 0.5;

/** The golden ratio's fraction: its multiples are spread evenly, without random numbers. */
const GOLDEN = 0.618_033_988_749_895;

const NOTHING_WAITS: Backlog = { waitingTextCount: 0, latenessMs: 0 };

/**
 * Counts what is admitted and not yet answered, in texts and in tokens. An empty queue admits any
 * single request, and no request counts as all of a limit of tokens, so that the largest allowed
 * request is never refused for ever.
 *
 * @param options.timeoutMs the longest that any caller waits: more than drains in that time is not
 * admitted.
 */
export function createAdmission(options: {
  clock: Clock;
  textCountMax: number;
  tokenCountMax: number;
  timeoutMs?: number;
  backlog?: Backlog;
}): Admission {
  const { clock, textCountMax, tokenCountMax, backlog = NOTHING_WAITS } = options;
  const timeoutMsMax = options.timeoutMs ?? Number.MAX_SAFE_INTEGER;
  const waitMsMax = Math.floor(timeoutMsMax * WAIT_SHARE);
  const holdings = new Holdings();
  const drainRate = new DrainRate(clock);
  let textCount = 0;
  let tokenCount = 0;
  let workTokenCount = 0;
  let refusedCount = 0;
  /** Tokens refused and not yet made up for by drained ones: refused callers come back. */
  let refusedTokens = 0;
  let isClosed = false;
  let onEmpty: (() => void) | undefined;

  function admit(asked: Demand): Permit {
    if (isClosed) throw new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.');
    const demand = attainable(asked);
    const holding = demand.caller === undefined ? undefined : holdings.of(demand.caller);
    if (textCount > 0) refuseOverLimit(demand, holding);
    textCount += demand.textCount;
    tokenCount += demand.tokenCount;
    workTokenCount += workOf(demand);
    if (holding !== undefined) holdings.add(holding, demand);
    let isReleased = false;
    return {
      release(isWorked = true) {
        invariant(!isReleased, 'a permit is released once');
        isReleased = true;
        if (holding !== undefined) holdings.remove(holding, demand);
        release(demand, isWorked);
      },
    };
  }

  /** The demand as it is counted: capped, so that the largest request can be admitted at all. */
  function attainable(demand: Demand): Demand {
    const tokens = REQUEST_SHARE * tokenCountMax;
    const drained = drainRate.isMeasured ? drainRate.tokensPerMs * waitMsMax : Infinity;
    const workTokens = REQUEST_SHARE * drained;
    if (demand.tokenCount <= tokens && workOf(demand) <= workTokens) return demand;
    return {
      ...demand,
      tokenCount: Math.min(demand.tokenCount, Math.floor(tokens)),
      workTokenCount: Math.min(workOf(demand), Math.floor(workTokens)),
    };
  }

  function refuseOverLimit(demand: Demand, holding: Demand | undefined): void {
    const texts = textCount + demand.textCount;
    const tokens = tokenCount + demand.tokenCount;
    if (texts > textCountMax) throw full('texts', textCountMax, texts, demand);
    if (tokens > tokenCountMax) throw full('tokens', tokenCountMax, tokens, demand);
    if (holding !== undefined) {
      const ownTexts = holding.textCount + demand.textCount;
      const ownTokens = holding.tokenCount + demand.tokenCount;
      const textShare = shareOf(textCountMax, texts);
      const tokenShare = shareOf(tokenCountMax, tokens);
      if (ownTexts > textShare) throw full('texts of yours', textShare, ownTexts, demand);
      if (ownTokens > tokenShare) throw full('tokens of yours', tokenShare, ownTokens, demand);
    }
    if (backlog.waitingTextCount > 0) refuseLate(demand);
  }

  /**
   * Refuses now what would miss its deadline later.
   *
   *     drainMs = (admitted + own tokens) / tokensPerMs, at most WAIT_SHARE × longest timeout
   *     latenessMs of the most urgent text,               at most WAIT_SHARE × own timeout
   */
  function refuseLate(demand: Demand): void {
    const tokens = workTokenCount + workOf(demand);
    const drainMs = drainRate.isMeasured ? tokens / drainRate.tokensPerMs : 0;
    if (drainMs > waitMsMax) throw full('ms of work', waitMsMax, Math.ceil(drainMs), demand);
    const ownMs = Math.floor((demand.timeoutMs ?? timeoutMsMax) * WAIT_SHARE);
    const lateMs = backlog.latenessMs;
    if (lateMs > ownMs) throw full('ms of texts ahead', ownMs, Math.ceil(lateMs), demand);
  }

  function release(demand: Demand, isWorked: boolean): void {
    textCount -= demand.textCount;
    tokenCount -= demand.tokenCount;
    workTokenCount -= workOf(demand);
    refusedTokens = Math.max(0, refusedTokens - workOf(demand));
    drainRate.note(isWorked ? workOf(demand) : 0, backlog.waitingTextCount > 0);
    if (textCount === 0) onEmpty?.();
  }

  /**
   * The refusal, with the time after which to come back:
   *
   *     excess  = the part of the work that must leave before the demand fits
   *     retryMs = (max(excess, own tokens) + refused tokens) / tokensPerMs × spread
   *
   * The refused tokens count because their callers will be back as well.
   */
  function full(unit: string, limit: number, value: number, demand: Demand): ServerError {
    const work = workOf(demand);
    const excess = ((value - limit) / value) * (workTokenCount + work);
    const aheadTokens = Math.max(excess, work) + refusedTokens;
    // Not every caller returns: what was refused is remembered up to one queue's worth.
    refusedTokens = Math.min(refusedTokens + work, workTokenCount);
    const spread = 1 + SPREAD * (((++refusedCount * GOLDEN) % 1) - 0.5);
    const waitMs = (aheadTokens / drainRate.tokensPerMs) * spread;
    const retryAfterMs = retryAfterMsOf(waitMs);
    return new ServerError(
      'EMB_QUEUE_FULL',
      `The queue is full: ${value} ${unit} would wait, the limit is ${limit}. ` +
        `Come back in ${retryAfterMs} ms.`,
      { limit, value, retryAfterMs },
    );
  }

  return {
    admit,
    get admittedTextCount() {
      return textCount;
    },
    get admittedTokenCount() {
      return tokenCount;
    },
    get callerCount() {
      return holdings.callerCount;
    },
    close() {
      isClosed = true;
      if (textCount === 0) return Promise.resolve();
      return new Promise((resolve) => {
        onEmpty = resolve;
      });
    },
  };
}

function workOf({ tokenCount, workTokenCount }: Demand): number {
  return workTokenCount ?? tokenCount;
}

/**
 * How many times the free part of the queue a caller may hold, once the queue is contended:
 *
 *     share = FREE_FACTOR × (max - total)
 *
 * Alone, a caller gets eight ninths of the queue; each of n callers gets nearly an nth; and the
 * next one always finds room. This is the dynamic threshold of shared-memory switches (Choudhury
 * and Hahne, 1998). It needs neither a list of callers nor a share for each.
 */
const FREE_FACTOR = 8;

/** Below this part of the limit the queue is not contended, and a caller may hold any of it. */
const CONTENDED_FROM = 0.5;

/**
 * How much of one unit, texts or tokens, a caller may hold when the queue as a whole holds
 * `totalAfter`. Pure.
 */
function shareOf(max: number, totalAfter: number): number {
  if (totalAfter <= max * CONTENDED_FROM) return max;
  return Math.max(1, FREE_FACTOR * (max - totalAfter));
}

/** What one caller holds of the queue. */
interface Holding {
  readonly caller: string;
  textCount: number;
  tokenCount: number;
}

/** Who holds how much. A caller that holds nothing takes no memory. */
class Holdings {
  readonly #byCaller = new Map<string, Holding>();

  get callerCount(): number {
    return this.#byCaller.size;
  }

  /** What `caller` holds; for a new caller an empty entry, which counts once it is added. */
  of(caller: string): Holding {
    return this.#byCaller.get(caller) ?? { caller, textCount: 0, tokenCount: 0 };
  }

  add(holding: Holding, demand: { textCount: number; tokenCount: number }): void {
    if (holding.textCount === 0) this.#byCaller.set(holding.caller, holding);
    holding.textCount += demand.textCount;
    holding.tokenCount += demand.tokenCount;
  }

  remove(holding: Holding, demand: { textCount: number; tokenCount: number }): void {
    holding.textCount -= demand.textCount;
    holding.tokenCount -= demand.tokenCount;
    if (holding.textCount === 0) this.#byCaller.delete(holding.caller);
  }
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

/**
 * How fast admitted tokens leave while texts wait for a slot, in tokens a ms. Time in which the
 * queue is empty does not count: an idle server drains nothing and is not slow.
 *
 *     rate = rate + SPAN_WEIGHT × (spanTokens / spanMs - rate), after each busy span
 */
export class DrainRate {
  readonly #clock: Clock;
  #tokensPerMs = RATE_GUESS;
  #isMeasured = false;
  #spanTokens = 0;
  #spanMs = 0;
  #lastMs: number;
  #wasBusy = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastMs = clock.now();
  }

  get tokensPerMs(): number {
    return this.#tokensPerMs;
  }

  /** Whether the rate was seen, not guessed. */
  get isMeasured(): boolean {
    return this.#isMeasured;
  }

  /** So many tokens have left. @param isBusy whether others wait for a slot. */
  note(tokenCount: number, isBusy: boolean): void {
    const nowMs = this.#clock.now();
    if (this.#wasBusy) {
      this.#spanMs += nowMs - this.#lastMs;
      this.#spanTokens += tokenCount;
      // A span in which nothing left is not over: it would tell of callers, not of the backend.
      if (this.#spanMs >= SPAN_MS && this.#spanTokens > 0) this.#close();
    }
    this.#wasBusy = isBusy;
    this.#lastMs = nowMs;
  }

  #close(): void {
    const seen = this.#spanTokens / this.#spanMs;
    const weight = this.#isMeasured ? SPAN_WEIGHT : 1;
    const rate = this.#tokensPerMs + weight * (seen - this.#tokensPerMs);
    this.#tokensPerMs = Math.max(rate, RATE_MIN);
    this.#isMeasured = true;
    this.#spanTokens = 0;
    this.#spanMs = 0;
  }
}
