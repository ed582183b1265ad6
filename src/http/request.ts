import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';

/** What a request says outside of its fields: path, id, patience, and the body as it came. */

/**
 * The path that a request asks for, as the router reads it: up to the query, undecoded. Never
 * throws: where Host is missing or no name, Bun leaves the path alone as the URL, and elsewhere
 * lets pass what `new URL` does not take.
 */
export function pathOf({ url }: Request): string {
  const start = url.startsWith('/') ? 0 : url.indexOf('/', url.indexOf('://') + 3);
  const end = url.indexOf('?', start + 1);
  return end < 0 ? url.slice(start) : url.slice(start, end);
}

/** Ids that callers may choose: printable, short, nothing that could break a log line. */
const REQUEST_ID = /^[\w.:/+=-]{1,128}$/;

/** The caller's request id when it is a usable one, otherwise a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get(REQUEST_ID_HEADER);
  return given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/** Header by which a caller says how long it waits, in ms. */
const TIMEOUT_HEADER = 'x-timeout-ms';

/**
 * How long the caller waits, when it says so; the server's own deadline holds all the same.
 *
 * @throws ServerError EMB_FIELD_INVALID unless it is a whole number of at least 1.
 */
export function timeoutOf(request: Request): number | undefined {
  const raw = request.headers.get(TIMEOUT_HEADER);
  if (raw === null) return undefined;
  const timeoutMs = Number(raw);
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 1) return timeoutMs;
  const message = `${TIMEOUT_HEADER} must be a whole number of ms, at least 1.`;
  const details = { field: TIMEOUT_HEADER, limit: 1, value: raw.slice(0, 32) };
  throw new ServerError('EMB_FIELD_INVALID', message, details);
}

/** What bounds a body: its own size, and what all bodies together may take. */
export interface BodyLimits {
  readonly bodyBytesMax: number;
  readonly bodyIntake: BodyIntake;
}

/**
 * Reads and decodes a request body by its Content-Type; one that is missing means JSON.
 *
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_MALFORMED, or as `BodyIntake`.
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<unknown> {
  const decode = decoderFor(request.headers.get('content-type'));
  return decode(await limits.bodyIntake.read(request, limits.bodyBytesMax));
}

function decoderFor(contentType: string | null): (body: Uint8Array) => unknown {
  if (contentType === null || contentType === 'application/json') return decodeJsonBody;
  const [media, ...parameters] = contentType.toLowerCase().split(';');
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='));
  const isUtf8 = charset === undefined || /^\s*charset="?utf-?8"?\s*$/.test(charset);
  if (isUtf8) {
    if (JSON_TYPES.has(media.trim())) return decodeJsonBody;
    if (MSGPACK_TYPES.has(media.trim())) return decodeMsgpackBody;
  }
  throw new ServerError(
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    `Content-Type "${contentType.slice(0, 100)}" is not known; send application/json (UTF-8) or application/msgpack.`,
    {
      field: 'content-type',
      limit: 'application/json, application/msgpack',
      value: contentType.slice(0, 100),
    },
  );
}

const JSON_TYPES: ReadonlySet<string> = new Set(['application/json', 'text/json']);
const MSGPACK_TYPES: ReadonlySet<string> = new Set([
  'application/msgpack',
  'application/x-msgpack',
  'application/vnd.msgpack',
]);

/** Takes request bodies in, within bounds that hold for all of them together. */
export interface BodyIntake {
  /**
   * @returns the whole body.
   * @throws ServerError EMB_BODY_TOO_LARGE, EMB_BODY_TIMEOUT, EMB_QUEUE_FULL or
   * EMB_REQUEST_ABORTED.
   */
  read(request: Request, bodyBytesMax: number): Promise<Uint8Array>;
  /** Bytes of the bodies that are being received: those that have come, or a small body's all. */
  readonly byteCount: number;
  readonly bodyCount: number;
}

/** A body on its way. */
interface Arrival {
  readonly startedMs: number;
  byteCount: number;
  /** Gives it up; its reader rejects. */
  giveUp(reason: ServerError): void;
}

/** Up to here a body of declared length is left to the runtime, which reads it without a copy. */
const SMALL_BYTES = 65_536;

/** A body younger than this is never given up for another, in ms: it may be complete soon. */
const YOUNG_MS = 1000;

/** How often bodies are checked against the timeout, in ms; only while there are any. */
const SWEEP_MS = 1000;

/**
 * Two limits hold: BODY_TIMEOUT_MS for each body, and BODIES_BYTES_MAX for all of them together. At
 * the second, the oldest body is given up: who has been slow for longest will likely stay so. So
 * thousands of clients that send a byte a second cannot crowd out one that sends its body at once.
 */
export function createBodyIntake(options: {
  clock: Clock;
  bodiesBytesMax: number;
  bodyTimeoutMs: number;
}): BodyIntake {
  const { clock, bodiesBytesMax, bodyTimeoutMs } = options;
  /** In order of their beginning. */
  const arrivals = new Set<Arrival>();
  let byteCount = 0;
  let isSweeping = false;

  async function read(request: Request, bodyBytesMax: number): Promise<Uint8Array> {
    const declared = Number(request.headers.get('content-length') ?? Number.NaN);
    if (declared > bodyBytesMax) throw tooLarge(bodyBytesMax, declared);
    const arrival: Arrival = { startedMs: clock.now(), byteCount: 0, giveUp: () => undefined };
    arrivals.add(arrival);
    sweepLater();
    try {
      if (declared <= SMALL_BYTES) return await readWhole(request, declared, arrival);
      return await readChunks(request, bodyBytesMax, arrival);
    } catch (cause) {
      if (cause instanceof ServerError) throw cause;
      const message = 'The caller hung up before its body was whole.';
      throw new ServerError('EMB_REQUEST_ABORTED', message, { cause });
    } finally {
      arrivals.delete(arrival);
      byteCount -= arrival.byteCount;
    }
  }

  function readWhole(request: Request, declared: number, arrival: Arrival): Promise<Uint8Array> {
    take(arrival, declared);
    return new Promise((resolve, reject) => {
      arrival.giveUp = reject;
      request.arrayBuffer().then((body) => resolve(new Uint8Array(body)), reject);
    });
  }

  /** Counts each chunk before the next is asked for. */
  async function readChunks(
    { body }: Request,
    bodyBytesMax: number,
    arrival: Arrival,
  ): Promise<Uint8Array> {
    if (body === null) return new Uint8Array();
    const reader: ReadableStreamDefaultReader<Uint8Array> = body.getReader();
    const chunks: Uint8Array[] = [];
    let reason: ServerError | undefined;
    // The rest is not wanted then; whether the peer hears of it does not matter.
    const cancel = (): void => void reader.cancel().catch(() => undefined);
    arrival.giveUp = (why) => {
      reason = why;
      cancel();
    };
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (reason !== undefined) throw reason;
        if (done) return Buffer.concat(chunks, arrival.byteCount);
        take(arrival, value.length);
        if (arrival.byteCount > bodyBytesMax) throw tooLarge(bodyBytesMax, arrival.byteCount);
        chunks.push(value);
      }
    } catch (error) {
      cancel();
      throw reason ?? error;
    }
  }

  /** Counts bytes to a body. Beyond the limit older bodies are given up, or else this one. */
  function take(arrival: Arrival, bytes: number): void {
    arrival.byteCount += bytes;
    byteCount += bytes;
    for (const other of arrivals) {
      if (byteCount <= bodiesBytesMax) return;
      if (other === arrival || clock.now() - other.startedMs < YOUNG_MS) break;
      drop(other, tooMany(bodiesBytesMax));
    }
    if (byteCount > bodiesBytesMax) throw tooMany(bodiesBytesMax);
  }

  function drop(arrival: Arrival, reason: ServerError): void {
    arrivals.delete(arrival);
    byteCount -= arrival.byteCount;
    arrival.byteCount = 0;
    arrival.giveUp(reason);
  }

  function sweepLater(): void {
    if (isSweeping) return;
    isSweeping = true;
    clock.schedule(Math.min(SWEEP_MS, bodyTimeoutMs), () => {
      isSweeping = false;
      for (const arrival of arrivals) {
        if (clock.now() - arrival.startedMs < bodyTimeoutMs) break;
        drop(arrival, tooSlow(bodyTimeoutMs));
      }
      if (arrivals.size > 0) sweepLater();
    });
  }

  return {
    read,
    get byteCount() {
      return byteCount;
    },
    get bodyCount() {
      return arrivals.size;
    },
  };
}

function tooLarge(limit: number, value: number): ServerError {
  const message = `The body has ${value} bytes or more, the limit is ${limit}.`;
  return new ServerError('EMB_BODY_TOO_LARGE', message, { field: 'body', limit, value });
}

function tooSlow(limit: number): ServerError {
  const message = `The body was not whole after ${limit} ms.`;
  return new ServerError('EMB_BODY_TIMEOUT', message, { field: 'body', limit });
}

function tooMany(limit: number): ServerError {
  const message = `Bodies of more than ${limit} bytes are being received. Come back in 1000 ms.`;
  return new ServerError('EMB_QUEUE_FULL', message, { field: 'body', limit, retryAfterMs: 1000 });
}
