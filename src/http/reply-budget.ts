import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { SMALL_BODY_BYTES_MAX } from '../reply/reply-memory.ts';

/** Bytes that the response copies, or a copy of them. */
type ReplyBody = Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;

/** Memory for replies that are being read by their callers, of all requests together. */
export interface ReplyBudget {
  /**
   * Called before the work: whether there would be room for a reply now.
   *
   * @param bytes at least.
   * @throws ServerError EMB_QUEUE_FULL.
   */
  check(bytes: number): void;
  /**
   * The body of a response. One that is counted is a copy that is given away as it is read.
   *
   * @param bytes borrowed until the response is made of what this returns.
   * @throws ServerError EMB_QUEUE_FULL when there is no room for it.
   */
  bodyOf(bytes: Uint8Array<ArrayBuffer>, requestId: string): ReplyBody;
  /** Of replies that are counted, what was not handed to the system yet. */
  readonly byteCount: number;
  /** Requests that are being answered: they have no reply yet. Kept by who answers. */
  workingCount: number;
}

/**
 * Replies up to this never count: the system takes 16 kB of each at the least. Of one that the
 * system takes no more of than that, all else lies in our memory, and there may be as many as there
 * are connections: 2,000 of 200 kB were 420 MB.
 */
const UNCOUNTED_BYTES_MAX = SMALL_BODY_BYTES_MAX;

/** From here on, replies that are left to the runtime have a share of their own. */
const LARGE_BYTES = 262_144;

/**
 * The part of the bound, beside it, that replies may take which are left to the runtime; large ones
 * and others each. Nobody tells when such a one was read, only how many were not. A stream that
 * can be counted costs twice the time of the bytes, 0.3 ms for 1 MB, and the reply its length.
 */
const LEFT_SHARE = 1 / 4;

/** The most that is copied into one piece, and freed when the system has it. */
const PIECE_BYTES_MAX = 262_144;
/** Pieces of a smaller reply: who does not take the first is seen after this part of its time. */
const PIECES_MIN = 8;

/** A reply younger than this is never given up for another, in ms. */
const YOUNG_MS = 1000;

/** How long a caller waits who finds no room, in ms. */
const RETRY_MS = 1000;

interface SentReply {
  readonly startedMs: number;
  readonly byteCount: number;
  /** What lies in our memory. */
  leftBytes: number;
  /** What was handed to the runtime, which takes no more until the system has all of it. */
  handedBytes: number;
  /** Its caller sees the connection break. */
  giveUp(): void;
}

/**
 * A reply lies in memory until its caller has read it, and the queue has forgotten its texts by
 * then. So they have a bound of their own. Where it is reached, those give way that are read
 * so slowly that they would take longer than BODY_TIMEOUT_MS, as slow bodies do: a hundred callers
 * who do not read would otherwise take 1 GB, for as long as their connections live. Who reads fast
 * enough keeps its reply, and who comes is told to come back. The largest reply is let into an
 * empty budget, whatever it takes. While few replies wait, they are left to the runtime, and cost
 * nothing more.
 */
export function createReplyBudget(options: {
  clock: Clock;
  repliesBytesMax: number;
  bodyTimeoutMs: number;
  /** Requests whose last byte of a reply the system does not have. */
  pendingCount: () => number;
  log: Log;
}): ReplyBudget {
  const { clock, repliesBytesMax, bodyTimeoutMs, pendingCount, log } = options;
  /** In order of their beginning. */
  const replies = new Set<SentReply>();
  let byteCount = 0;
  let workingCount = 0;
  /** The largest of each kind left to the runtime since it had none. */
  const largestLeft = { large: 0, other: 0 };

  function check(bytes: number): void {
    if (bytes > UNCOUNTED_BYTES_MAX) makeRoom(bytes);
  }

  function makeRoom(bytes: number): void {
    let lack = byteCount + bytes - repliesBytesMax;
    if (lack <= 0 || replies.size === 0) return;
    const slow: SentReply[] = [];
    for (const reply of replies) {
      if (lack <= 0) break;
      if (isOnTime(reply)) continue;
      slow.push(reply);
      lack -= reply.leftBytes;
    }
    if (lack > 0 && slow.length < replies.size) throw tooMany(repliesBytesMax);
    for (const reply of slow) reply.giveUp();
  }

  /** Whether it is read fast enough to be through before its timeout. */
  function isOnTime({ startedMs, byteCount: whole, handedBytes }: SentReply): boolean {
    const ageMs = clock.now() - startedMs;
    return ageMs < YOUNG_MS || handedBytes * bodyTimeoutMs >= whole * ageMs;
  }

  function bodyOf(bytes: Uint8Array<ArrayBuffer>, requestId: string): ReplyBody {
    if (bytes.length <= UNCOUNTED_BYTES_MAX || mayLeave(bytes.length)) return bytes;
    makeRoom(bytes.length);
    return send(bytes, requestId);
  }

  /** Whether few enough wait to be read that one more need not be counted. */
  function mayLeave(bytes: number): boolean {
    const unreadCount = Math.max(0, pendingCount() - workingCount - replies.size);
    if (unreadCount === 0) Object.assign(largestLeft, { large: 0, other: 0 });
    const kind = bytes < LARGE_BYTES ? 'other' : 'large';
    const largest = Math.max(largestLeft[kind], bytes);
    if ((unreadCount + 1) * largest > LEFT_SHARE * repliesBytesMax) return false;
    largestLeft[kind] = largest;
    return true;
  }

  function send(bytes: Uint8Array, requestId: string): ReadableStream<Uint8Array> {
    const pieces = piecesOf(bytes);
    let controller: ReadableStreamDefaultController<Uint8Array>;
    const reply: SentReply = {
      startedMs: clock.now(),
      byteCount: bytes.length,
      leftBytes: bytes.length,
      handedBytes: 0,
      giveUp() {
        const ms = Math.round(clock.now() - reply.startedMs);
        log.warn('reply-given-up', {
          requestId,
          bytes: reply.byteCount,
          left: reply.leftBytes,
          ms,
        });
        end();
        controller.error();
      },
    };
    const take = (taken: number): void => {
      reply.leftBytes -= taken;
      byteCount -= taken;
    };
    const end = (): void => {
      replies.delete(reply);
      pieces.length = 0;
      take(reply.leftBytes);
    };
    replies.add(reply);
    byteCount += bytes.length;
    const source = {
      start(started: typeof controller) {
        controller = started;
      },
      pull() {
        // Asked for more, the runtime has given all before to the system.
        take(reply.handedBytes - (reply.byteCount - reply.leftBytes));
        const piece = pieces.pop();
        if (piece !== undefined) {
          reply.handedBytes += piece.length;
          controller.enqueue(piece);
          return;
        }
        end();
        controller.close();
      },
      cancel: end,
    };
    return new ReadableStream(source, { highWaterMark: 0 });
  }

  return {
    check,
    bodyOf,
    get byteCount() {
      return byteCount;
    },
    get workingCount() {
      return workingCount;
    },
    set workingCount(count) {
      workingCount = count;
    },
  };
}

/** A copy of a reply, its last piece first. */
function piecesOf(bytes: Uint8Array): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const length = Math.min(PIECE_BYTES_MAX, Math.ceil(bytes.length / PIECES_MIN));
  for (let at = 0; at < bytes.length; at += length) pieces.push(bytes.slice(at, at + length));
  return pieces.reverse();
}

function tooMany(limit: number): ServerError {
  const message =
    `Replies of ${limit} bytes wait to be read by their callers. ` + `Come back in ${RETRY_MS} ms.`;
  return new ServerError('EMB_QUEUE_FULL', message, { limit, retryAfterMs: RETRY_MS });
}
