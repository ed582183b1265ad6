import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { type BodyAccount, createBodyBudget } from './body-budget.ts';
import { type ContentEncoding, parseContentEncoding, unpack } from './content-encoding.ts';

/** Takes request bodies in, within bounds that hold for all of them together. */
export interface BodyIntake {
  /**
   * Reads a body whole, unpacks it as its Content-Encoding says, and decodes it. It counts until
   * it is decoded. A large one may have to wait for room before its first byte is read.
   *
   * @param limits.bodyBytesMax holds for what came, and for what it unpacks to.
   * @param limits.waitMs how long the caller would wait for room, in ms; asked when there is none.
   * @throws ServerError EMB_BODY_TOO_LARGE, EMB_BODY_TIMEOUT, EMB_BODY_MALFORMED,
   * EMB_CONTENT_ENCODING_UNSUPPORTED, EMB_QUEUE_FULL or EMB_REQUEST_ABORTED, or as the decoder.
   */
  read<Value>(
    request: Request,
    limits: { readonly bodyBytesMax: number; waitMs(): number },
    decoder: BodyDecoder<Value>,
  ): Promise<Value>;
  /**
   * Makes a refusal arrive although its request's body is still on its way: a connection that is
   * closed under its sender is reset, and the reply in it is lost. So what is left of the body is
   * read and dropped, within BODY_TIMEOUT_MS and BODIES_BYTES_MAX; if it takes more than a moment,
   * beside the reply, which then ends the connection.
   */
  refuse(request: Request, reply: Response): Promise<Response>;
  /** What the bodies that are being received count as. */
  readonly byteCount: number;
  readonly bodyCount: number;
  /** Of these, large ones that wait for room. */
  readonly waitingCount: number;
}

/** What a body is decoded by. */
export interface BodyDecoder<Value> {
  /** @param body borrowed: what is made of it shows nothing of it later. */
  decode(body: Uint8Array): Value;
  /** The most memory that decoding takes for each byte of a body of texts, the body included. */
  readonly costPerByte: number;
}

/** Up to here a body of declared length is left to the runtime, which reads it without a copy. */
const SMALL_BYTES = 65_536;

/** From here a body counts as what decoding it takes, and may have to wait for room. */
const LARGE_BYTES = 1_048_576;

/**
 * After so many bytes that decoding large bodies took, what is left of them is collected. Left to
 * itself the runtime kept up to a gigabyte of eight bodies. A collection holds the main thread for
 * 10 to 45 ms, decoding so much for 80 to 180.
 */
const GARBAGE_BYTES = 67_108_864;

/** Some time after that, in ms, what their requests have left is collected as well. */
const COLLECT_AGAIN_MS = 5000;

/** How long a refusal waits for the rest of its body, in ms: most are whole by then. */
const REFUSAL_MS = 100;

/** How long nothing may come of a refused body, in ms: nginx' `lingering_timeout`. */
const SILENCE_MS = 5000;

/** @param options.collectGarbage runs a full collection, now. */
export function createBodyIntake(options: {
  clock: Clock;
  bodiesBytesMax: number;
  bodyTimeoutMs: number;
  collectGarbage?: () => void;
}): BodyIntake {
  const { clock, bodiesBytesMax, bodyTimeoutMs } = options;
  const { collectGarbage = () => Bun.gc(true) } = options;
  const budget = createBodyBudget(options);
  let garbageBytes = 0;
  let isCollectingAgain = false;

  async function read<Value>(
    request: Request,
    limits: { readonly bodyBytesMax: number; waitMs(): number },
    decoder: BodyDecoder<Value>,
  ): Promise<Value> {
    const { bodyBytesMax } = limits;
    const said = request.headers.get('content-encoding');
    const encoding = said === null ? undefined : parseContentEncoding(said);
    const declared = Number(request.headers.get('content-length') ?? Number.NaN);
    if (declared > bodyBytesMax) throw tooLarge(bodyBytesMax, declared);
    const account = budget.open();
    try {
      if (declared <= SMALL_BYTES && encoding === undefined) {
        return decoder.decode(await readWhole(request, declared, account));
      }
      const patience = { signal: request.signal, waitMs: limits.waitMs };
      const room: LargeRoom = {
        isReserved: false,
        async reserve(bytes = bodyBytesMax) {
          await account.reserve({ bytes, costBytes: bytes * decoder.costPerByte }, patience);
          room.isReserved = true;
        },
      };
      const size = { declared, bodyBytesMax, encoding };
      const body = await readChunks(request, size, account, room);
      const plain = encoding === undefined ? body : await unpackWithin(body, encoding, size, room);
      if (plain !== body) account.take(plain.length);
      return decodeAndFree(plain, decoder);
    } finally {
      account.close();
    }
  }

  function readWhole(
    request: Request,
    declared: number,
    account: BodyAccount,
  ): Promise<Uint8Array> {
    account.take(declared);
    return new Promise((resolve, reject) => {
      account.giveUp = reject;
      request.bytes().then(resolve, (cause) => reject(hungUp(cause)));
    });
  }

  /** Counts each chunk before the next is asked for. */
  async function readChunks(
    { body }: Request,
    size: { declared: number; bodyBytesMax: number; encoding: ContentEncoding | undefined },
    account: BodyAccount,
    room: LargeRoom,
  ): Promise<Uint8Array> {
    const { declared, bodyBytesMax, encoding } = size;
    if (body === null) return new Uint8Array();
    // What it unpacks to is not known.
    if (declared > LARGE_BYTES) await room.reserve(encoding === undefined ? declared : undefined);
    const gathered = new ByteGathering();
    if (declared >= 0) gathered.expect(declared);
    const reader: ReadableStreamDefaultReader<Uint8Array> = body.getReader();
    let reason: ServerError | undefined;
    account.giveUp = (why) => {
      reason = why;
      // Its pending read rejects; `refuse` reads on.
      reader.releaseLock();
    };
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (reason !== undefined) throw reason;
        if (done) return gathered.whole();
        account.take(value.length);
        gathered.add(value);
        if (gathered.byteCount > bodyBytesMax) throw tooLarge(bodyBytesMax, gathered.byteCount);
        if (gathered.byteCount <= LARGE_BYTES || room.isReserved) continue;
        await room.reserve();
        gathered.expect(bodyBytesMax);
      }
    } catch (error) {
      reader.releaseLock();
      if (error instanceof ServerError) throw error;
      throw reason ?? hungUp(error);
    }
  }

  /** Most bodies unpack to little; for another there must be room first. */
  async function unpackWithin(
    body: Uint8Array,
    encoding: ContentEncoding,
    { bodyBytesMax }: { bodyBytesMax: number },
    room: LargeRoom,
  ): Promise<Uint8Array> {
    const bytesMax = room.isReserved ? bodyBytesMax : Math.min(LARGE_BYTES, bodyBytesMax);
    let plain = await unpack(body, encoding, bytesMax);
    if (plain === undefined && bytesMax < bodyBytesMax) {
      await room.reserve();
      plain = await unpack(body, encoding, bodyBytesMax);
    }
    free(body);
    if (plain !== undefined) return plain;
    const message = `The body unpacks to more than ${bodyBytesMax} bytes, the limit.`;
    throw new ServerError('EMB_BODY_TOO_LARGE', message, { field: 'body', limit: bodyBytesMax });
  }

  /** Memory of a large body goes back now, not when the runtime next looks. */
  function decodeAndFree<Value>(body: Uint8Array, decoder: BodyDecoder<Value>): Value {
    const { length } = body;
    try {
      return decoder.decode(body);
    } finally {
      free(body);
      if (length > LARGE_BYTES) garbageBytes += length * decoder.costPerByte;
      if (garbageBytes >= GARBAGE_BYTES) collect();
    }
  }

  function collect(): void {
    garbageBytes = 0;
    collectGarbage();
    if (isCollectingAgain) return;
    isCollectingAgain = true;
    clock.schedule(COLLECT_AGAIN_MS, () => {
      isCollectingAgain = false;
      collectGarbage();
    });
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
        freeChunk(value);
      }
    } catch {
      // The caller has hung up, or says nothing.
    }
    reader.releaseLock();
    void body.cancel().catch(() => undefined);
    return 'read';
  }

  return {
    read,
    refuse,
    get byteCount() {
      return budget.byteCount;
    },
    get bodyCount() {
      return budget.bodyCount;
    },
    get waitingCount() {
      return budget.waitingCount;
    },
  };
}

function hungUp(cause: unknown): ServerError {
  const message = 'The caller hung up before its body was whole.';
  return new ServerError('EMB_REQUEST_ABORTED', message, { cause });
}

function tooLarge(limit: number, value: number): ServerError {
  const message = `The body has ${value} bytes or more, the limit is ${limit}.`;
  return new ServerError('EMB_BODY_TOO_LARGE', message, { field: 'body', limit, value });
}

/** Room for one large body. */
interface LargeRoom {
  isReserved: boolean;
  /** @param bytes those of the largest, where nobody knows. @throws ServerError as `BodyAccount`. */
  reserve(bytes?: number): Promise<void>;
}

/**
 * The bytes of a body as they come, in one buffer, which holds no memory until it is written.
 * Chunks that are joined at the end take twice their size.
 */
class ByteGathering {
  readonly #chunks: Uint8Array[] = [];
  #buffer: Uint8Array | undefined;
  byteCount = 0;

  /** @param bytes that it will have at most. */
  expect(bytes: number): void {
    const buffer = new Uint8Array(bytes);
    let at = 0;
    for (const chunk of this.#chunks.splice(0)) {
      buffer.set(chunk, at);
      at += chunk.length;
      freeChunk(chunk);
    }
    this.#buffer = buffer;
  }

  add(chunk: Uint8Array): void {
    const at = this.byteCount;
    this.byteCount += chunk.length;
    if (this.#buffer === undefined) {
      this.#chunks.push(chunk);
    } else if (this.byteCount <= this.#buffer.length) {
      this.#buffer.set(chunk, at);
      freeChunk(chunk);
    }
  }

  whole(): Uint8Array {
    return this.#buffer?.subarray(0, this.byteCount) ?? Buffer.concat(this.#chunks, this.byteCount);
  }
}

/** As `free`, for a chunk of the runtime's, unless it may share its memory with others. */
function freeChunk(chunk: Uint8Array): void {
  if (chunk.length === chunk.buffer.byteLength) free(chunk);
}

/** Gives back the memory that bytes are a view of; nobody reads it again. */
function free({ buffer }: Uint8Array): void {
  // Small ones may lie in a pool, and are not worth it.
  if (buffer.byteLength >= SMALL_BYTES / 4 && buffer instanceof ArrayBuffer) buffer.transfer(0);
}
