import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, inflateRaw, zstdDecompress } from 'node:zlib';
import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

/** Takes request bodies in, within bounds that hold for all of them together. */
export interface BodyIntake {
  /**
   * Reads a body whole, unpacks it as its Content-Encoding says, and decodes it. It counts until
   * it is decoded.
   *
   * @param bodyBytesMax holds for what came, and for what it unpacks to.
   * @throws ServerError EMB_BODY_TOO_LARGE, EMB_BODY_TIMEOUT, EMB_BODY_MALFORMED,
   * EMB_CONTENT_ENCODING_UNSUPPORTED, EMB_QUEUE_FULL or EMB_REQUEST_ABORTED, or as `decode`.
   */
  read<Value>(
    request: Request,
    bodyBytesMax: number,
    decode: (body: Uint8Array) => Value,
  ): Promise<Value>;
  /**
   * Makes a refusal arrive although its request's body is still on its way: a connection that is
   * closed under its sender is reset, and the reply in it is lost. So what is left of the body is
   * read and dropped, within BODY_TIMEOUT_MS and BODIES_BYTES_MAX; if it takes more than a moment,
   * beside the reply, which then ends the connection.
   */
  refuse(request: Request, reply: Response): Promise<Response>;
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

/** How long a refusal waits for the rest of its body, in ms: most are whole by then. */
const REFUSAL_MS = 100;

/** How long nothing may come of a refused body, in ms: nginx' `lingering_timeout`. */
const SILENCE_MS = 5000;

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

  async function read<Value>(
    request: Request,
    bodyBytesMax: number,
    decode: (body: Uint8Array) => Value,
  ): Promise<Value> {
    const encoding = encodingOf(request);
    const declared = Number(request.headers.get('content-length') ?? Number.NaN);
    if (declared > bodyBytesMax) throw tooLarge(bodyBytesMax, declared);
    const arrival: Arrival = { startedMs: clock.now(), byteCount: 0, giveUp: () => undefined };
    arrivals.add(arrival);
    sweepLater();
    try {
      const body =
        declared <= SMALL_BYTES
          ? await readWhole(request, declared, arrival)
          : await readChunks(request, { declared, bodyBytesMax }, arrival);
      if (encoding === undefined) return decode(body);
      const unpacked = await unpack(body, encoding, bodyBytesMax);
      take(arrival, unpacked.length);
      return decode(unpacked);
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
    { declared, bodyBytesMax }: { declared: number; bodyBytesMax: number },
    arrival: Arrival,
  ): Promise<Uint8Array> {
    if (body === null) return new Uint8Array();
    const reader: ReadableStreamDefaultReader<Uint8Array> = body.getReader();
    const gathered = new ByteGathering(declared);
    let reason: ServerError | undefined;
    arrival.giveUp = (why) => {
      reason = why;
      // Its pending read rejects; `refuse` reads on.
      reader.releaseLock();
    };
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (reason !== undefined) throw reason;
        if (done) return gathered.whole();
        take(arrival, value.length);
        if (arrival.byteCount > bodyBytesMax) throw tooLarge(bodyBytesMax, arrival.byteCount);
        gathered.add(value);
      }
    } catch (error) {
      reader.releaseLock();
      throw reason ?? error;
    }
  }

  async function refuse({ body }: Request, reply: Response): Promise<Response> {
    // Whoever has read it whole still holds its reader.
    if (body === null || body.locked) return reply;
    const rest = readOn(body);
    const moment = Promise.withResolvers<'later'>();
    const cancel = clock.schedule(REFUSAL_MS, () => moment.resolve('later'));
    if ((await Promise.race([rest, moment.promise])) !== 'later') {
      cancel();
      return reply;
    }
    const told = await reply.bytes();
    const headers = new Headers(reply.headers);
    headers.set('connection', 'close');
    const stream = new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(told);
        await rest;
        controller.close();
      },
    });
    return new Response(stream, { status: reply.status, headers });
  }

  /** Drops what comes, until all has come, a bound is reached, or nothing comes any more. */
  async function readOn(body: ReadableStream<Uint8Array>): Promise<'read'> {
    const reader = body.getReader();
    const untilMs = clock.now() + bodyTimeoutMs;
    let left = bodiesBytesMax;
    let isSilent = false;
    try {
      while (left > 0 && !isSilent) {
        const cancel = clock.schedule(Math.min(SILENCE_MS, untilMs - clock.now()), () => {
          isSilent = true;
          reader.releaseLock();
        });
        const { done, value } = await reader.read().finally(cancel);
        if (done) return 'read';
        left -= value.length;
      }
    } catch {
      // The caller has hung up, or says nothing.
    }
    reader.releaseLock();
    void body.cancel().catch(() => undefined);
    return 'read';
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
    refuse,
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

/**
 * The bytes of a body as they come: in one buffer where their number is known, which holds no
 * memory until it is written. Chunks that are joined at the end take twice their size.
 */
class ByteGathering {
  readonly #chunks: Uint8Array[] = [];
  readonly #buffer: Uint8Array | undefined;
  #byteCount = 0;

  /** @param declared NaN when it is not known. */
  constructor(declared: number) {
    if (declared >= 0) this.#buffer = new Uint8Array(declared);
  }

  add(chunk: Uint8Array): void {
    if (this.#buffer === undefined) this.#chunks.push(chunk);
    else this.#buffer.set(chunk, this.#byteCount);
    this.#byteCount += chunk.length;
  }

  whole(): Uint8Array {
    return (
      this.#buffer?.subarray(0, this.#byteCount) ?? Buffer.concat(this.#chunks, this.#byteCount)
    );
  }
}

function tooSlow(limit: number): ServerError {
  const message = `The body was not whole after ${limit} ms.`;
  return new ServerError('EMB_BODY_TIMEOUT', message, { field: 'body', limit });
}

function tooMany(limit: number): ServerError {
  const message = `Bodies of more than ${limit} bytes are being received. Come back in 1000 ms.`;
  return new ServerError('EMB_QUEUE_FULL', message, { field: 'body', limit, retryAfterMs: 1000 });
}

/** Bodies that come packed: `Content-Encoding`. */

type Unpack = (body: Uint8Array, limits: { maxOutputLength: number }) => Promise<Uint8Array>;

/** Off the main thread, each. */
const UNPACKERS = {
  gzip: promisify(gunzip) as Unpack,
  deflate: inflateEither,
  br: promisify(brotliDecompress) as Unpack,
  zstd: promisify(zstdDecompress) as Unpack,
} as const satisfies Record<string, Unpack>;

/** An encoding that is taken. */
export type ContentEncoding = keyof typeof UNPACKERS;

const KNOWN = Object.keys(UNPACKERS).join(', ');

/**
 * How a body is packed; undefined when it is not.
 *
 * @throws ServerError EMB_CONTENT_ENCODING_UNSUPPORTED.
 */
export function encodingOf({ headers }: Request): ContentEncoding | undefined {
  const said = headers.get('content-encoding');
  if (said === null) return undefined;
  const word = said
    .trim()
    .toLowerCase()
    .replace(/^x-gzip$/, 'gzip');
  if (word === '' || word === 'identity') return undefined;
  if (Object.hasOwn(UNPACKERS, word)) return word as ContentEncoding;
  const value = said.slice(0, 100);
  throw new ServerError(
    'EMB_CONTENT_ENCODING_UNSUPPORTED',
    `Content-Encoding "${value}" is not taken; send one of ${KNOWN}, or none.`,
    { field: 'content-encoding', limit: KNOWN, value, acceptEncoding: KNOWN },
  );
}

/**
 * Unpacks a body.
 *
 * @param body borrowed.
 * @param bytesMax of what comes out; no more is ever made.
 * @throws ServerError EMB_BODY_TOO_LARGE or EMB_BODY_MALFORMED.
 */
export async function unpack(
  body: Uint8Array,
  encoding: ContentEncoding,
  bytesMax: number,
): Promise<Uint8Array> {
  try {
    return await UNPACKERS[encoding](body, { maxOutputLength: bytesMax });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      const message = `The body unpacks to more than ${bytesMax} bytes, the limit.`;
      const details = { field: 'body', limit: bytesMax, cause };
      throw new ServerError('EMB_BODY_TOO_LARGE', message, details);
    }
    const message = `The body is no ${encoding}, which its Content-Encoding says, or ends too soon.`;
    const details = { field: 'content-encoding', value: encoding, cause };
    throw new ServerError('EMB_BODY_MALFORMED', message, details);
  }
}

/** The standard says zlib (RFC 9110); some clients have always sent it without zlib's header. */
async function inflateEither(body: Uint8Array, limits: { maxOutputLength: number }) {
  const isZlib = (body[0] & 0x0f) === 8 && ((body[0] << 8) | body[1]) % 31 === 0;
  return await promisify(isZlib ? inflate : inflateRaw)(body, limits);
}
