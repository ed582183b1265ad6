import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { type Link, LinkedList } from '../base/linked-list.ts';

/** Memory for the bodies that are being received or decoded, of all requests together. */
export interface BodyBudget {
  /** A body begins. */
  open(): BodyAccount;
  /** What they count as now. */
  readonly byteCount: number;
  readonly bodyCount: number;
  readonly waitingCount: number;
}

/** What one body takes of the budget, until it is closed. */
export interface BodyAccount {
  /** Called at most once, when it is given up for others or is too slow: its reading ends. */
  giveUp: (reason: ServerError) => void;
  /** Bytes that have come; before that they do not count. @throws ServerError EMB_QUEUE_FULL. */
  take(bytes: number): void;
  /**
   * Waits until there is room for a large body, and takes it. Before its bytes are asked for they
   * wait in the caller's socket, where they cost next to nothing.
   *
   * @throws ServerError EMB_QUEUE_FULL when there was none in time, or EMB_REQUEST_ABORTED.
   */
  reserve(size: BodySize, patience: Patience): Promise<void>;
  close(): void;
}

/** What a body is expected to be. */
interface BodySize {
  readonly bytes: number;
  /** Memory that it takes while it is decoded, itself included. */
  readonly costBytes: number;
}

/** How long a body may wait for room. */
export interface Patience {
  readonly signal: AbortSignal;
  /** In ms; asked only when there is no room. */
  waitMs(): number;
}

interface CountedBody {
  giveUp: (reason: ServerError) => void;
  startedMs: number;
  cameBytes: number;
  /** What it is expected to be in bytes; 0 without a reservation. */
  expectedBytes: number;
  reservedBytes: number;
  countedBytes: number;
  isWaiting: boolean;
  readonly link: Link<CountedBody>;
}

interface Waiting {
  readonly body: CountedBody;
  readonly size: BodySize;
  admit(): void;
}

/** A body younger than this is never given up for another, in ms: it may be complete soon. */
const YOUNG_MS = 1000;

/** How often bodies are checked against the timeout, in ms; only while there are any. */
const SWEEP_MS = 1000;

/** Large bodies leave this part of the budget to small ones. */
const SMALL_SHARE = 1 / 8;

/** What a body that waits unread takes: the runtime reads so much before it stops the socket. */
const WAITING_BYTES = 1_048_576;

/** The part of the budget that bodies may take which wait unread. */
const WAITING_SHARE = 1 / 4;

/**
 * Two limits hold: BODY_TIMEOUT_MS for each body, and BODIES_BYTES_MAX for all of them together.
 *
 * A large body counts as the memory that decoding it takes, before its first byte is read. It
 * enters when there is room, in the order in which they came. It keeps that room while it comes
 * fast enough to be whole in time; otherwise it counts as the bytes that have come, as a small body
 * does. At the limit the oldest of those is given up: who has been slow for longest will likely
 * stay so. So thousands of clients that send a byte a second cannot crowd out one that sends its
 * body at once.
 */
export function createBodyBudget(options: {
  clock: Clock;
  bodiesBytesMax: number;
  bodyTimeoutMs: number;
}): BodyBudget {
  const { clock, bodiesBytesMax, bodyTimeoutMs } = options;
  const largeBytesMax = Math.floor(bodiesBytesMax * (1 - SMALL_SHARE));
  const waitingMax = Math.max(1, Math.floor((bodiesBytesMax * WAITING_SHARE) / WAITING_BYTES));
  /** In order of their beginning. */
  const bodies = new LinkedList<CountedBody>();
  /** In the order in which they came. */
  const waiting = new Set<Waiting>();
  let byteCount = 0;
  let isSweeping = false;

  /** A class for its speed: each request has one. */
  class Account implements CountedBody, BodyAccount {
    startedMs = clock.now();
    cameBytes = 0;
    expectedBytes = 0;
    reservedBytes = 0;
    countedBytes = 0;
    isWaiting = false;
    giveUp: (reason: ServerError) => void = ignore;
    readonly link = bodies.add(this);

    take(bytes: number): void {
      take(this, bytes);
    }

    reserve(size: BodySize, patience: Patience): Promise<void> {
      return reserve(this, size, patience);
    }

    close(): void {
      forget(this);
      if (waiting.size > 0) letIn();
    }
  }

  function open(): BodyAccount {
    const body = new Account();
    sweepLater();
    return body;
  }

  function take(body: CountedBody, bytes: number): void {
    body.cameBytes += bytes;
    recount(body);
    if (byteCount <= bodiesBytesMax) return;
    giveUpSlow(byteCount - bodiesBytesMax, body);
    if (byteCount > bodiesBytesMax) throw tooMany(bodiesBytesMax);
  }

  async function reserve(body: CountedBody, size: BodySize, patience: Patience): Promise<void> {
    if (waiting.size === 0 && grant(body, size)) return;
    const waitMs = patience.waitMs();
    if (waiting.size >= waitingMax || waitMs <= 0) throw tooMany(bodiesBytesMax);
    const sinceMs = clock.now();
    const { giveUp } = body;
    body.isWaiting = true;
    try {
      await waitForRoom({ body, size }, waitMs, patience.signal);
    } finally {
      Object.assign(body, { isWaiting: false, giveUp });
      // The caller is not slow because we made it wait.
      body.startedMs += clock.now() - sinceMs;
    }
  }

  function waitForRoom(
    what: Pick<Waiting, 'body' | 'size'>,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        cancelTimer();
        signal.removeEventListener('abort', onAbort);
        waiting.delete(entry);
      };
      const refuse = (reason: ServerError): void => {
        end();
        reject(reason);
        letIn();
      };
      const entry: Waiting = {
        ...what,
        admit() {
          end();
          resolve();
        },
      };
      const onAbort = (): void =>
        refuse(new ServerError('EMB_REQUEST_ABORTED', 'The caller hung up before the reply.'));
      const cancelTimer = clock.schedule(waitMs, () => refuse(tooMany(bodiesBytesMax)));
      what.body.giveUp = refuse;
      waiting.add(entry);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort);
    });
  }

  /** There may be more room: whoever waits enters in turn. */
  function letIn(): void {
    for (const { body, size, admit } of waiting) {
      if (!grant(body, size)) return;
      admit();
    }
  }

  /** Gives a large body its room, if there is so much. */
  function grant(body: CountedBody, { bytes, costBytes }: BodySize): boolean {
    // The largest body enters an empty budget, whatever it costs.
    const cost = Math.min(costBytes, largeBytesMax);
    const lack = (): number => byteCount - body.countedBytes + cost - largeBytesMax;
    if (lack() > 0) {
      for (const other of bodies) if (!isOnTime(other)) forfeit(other);
      giveUpSlow(lack(), body);
    }
    if (lack() > 0) return false;
    Object.assign(body, { expectedBytes: bytes, reservedBytes: cost });
    recount(body);
    return true;
  }

  /** Whether a body with a reservation comes fast enough to be whole before its timeout. */
  function isOnTime({ startedMs, cameBytes, expectedBytes, isWaiting }: CountedBody): boolean {
    const ageMs = clock.now() - startedMs;
    return isWaiting || ageMs < YOUNG_MS || cameBytes * bodyTimeoutMs >= expectedBytes * ageMs;
  }

  function forfeit(body: CountedBody): void {
    body.reservedBytes = 0;
    recount(body);
  }

  /** Gives up the oldest bodies without a reservation, if that makes room for so many bytes. */
  function giveUpSlow(bytes: number, asking: CountedBody): void {
    const given: CountedBody[] = [];
    let left = bytes;
    for (const body of bodies) {
      if (left <= 0 || clock.now() - body.startedMs < YOUNG_MS) break;
      if (body === asking || body.reservedBytes > 0 || body.countedBytes === 0) continue;
      given.push(body);
      left -= body.countedBytes;
    }
    if (left > 0) return;
    for (const body of given) drop(body, tooMany(bodiesBytesMax));
  }

  function drop(body: CountedBody, reason: ServerError): void {
    forget(body);
    body.giveUp(reason);
  }

  function forget(body: CountedBody): void {
    bodies.remove(body.link);
    body.cameBytes = 0;
    body.reservedBytes = 0;
    recount(body);
  }

  function recount(body: CountedBody): void {
    const counts = Math.max(body.cameBytes, body.reservedBytes);
    byteCount += counts - body.countedBytes;
    body.countedBytes = counts;
  }

  function sweepLater(): void {
    if (isSweeping) return;
    isSweeping = true;
    clock.schedule(Math.min(SWEEP_MS, bodyTimeoutMs), () => {
      isSweeping = false;
      for (const body of bodies) {
        if (clock.now() - body.startedMs < bodyTimeoutMs || body.isWaiting) continue;
        drop(body, tooSlow(bodyTimeoutMs));
      }
      letIn();
      if (bodies.size > 0) sweepLater();
    });
  }

  return {
    open,
    get byteCount() {
      return byteCount;
    },
    get bodyCount() {
      return bodies.size;
    },
    get waitingCount() {
      return waiting.size;
    },
  };
}

function ignore(): void {}

function tooSlow(limit: number): ServerError {
  const message = `The body was not whole after ${limit} ms.`;
  return new ServerError('EMB_BODY_TIMEOUT', message, { field: 'body', limit });
}

function tooMany(limit: number): ServerError {
  const message = `Bodies that take ${limit} bytes are being received. Come back in 1000 ms.`;
  return new ServerError('EMB_QUEUE_FULL', message, { field: 'body', limit, retryAfterMs: 1000 });
}
