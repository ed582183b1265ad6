import type { Clock } from '../../base/clock.ts';
import { directFetch } from '../../base/direct-fetch.ts';
import { ServerError } from '../../base/errors.ts';
import { LinkedList } from '../../base/linked-list.ts';
import { type Head, valuesPerText } from '../../vectors/output.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import {
  decodeInferReply,
  decodeSharedReply,
  encodeInferRequest,
  encodeSharedRequest,
  type InferRequest,
  layoutOf,
  type SharedRegion,
  type TritonSignature,
} from './triton-wire.ts';

/** An HTTP reply, whole. */
export interface TritonReply {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What is asked. */
export interface TritonRequest {
  readonly address: string;
  readonly method?: 'GET' | 'POST';
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly headers?: Record<string, string>;
  /** A pooled connection may be half open; a fresh one tells of the server. */
  readonly isFreshConnection: boolean;
  /** For the whole reply, its body included. */
  readonly timeoutMs: number;
}

/** A call on its way. */
export interface OpenCall {
  /**
   * Rejects with EMB_BACKEND_TIMEOUT, EMB_BACKEND_UNAVAILABLE, or the reason that `cancel` was
   * given.
   */
  readonly reply: Promise<TritonReply>;
  /** Gives the call up; what it holds of a connection is let go. */
  cancel(reason: ServerError): void;
}

/** Sends one request. The simulation has its own. */
export type TritonCall = (request: TritonRequest) => OpenCall;

/** Calls over fetch, and never through a proxy. */
export function createTritonCall(clock: Clock): TritonCall {
  return ({ address, isFreshConnection, timeoutMs, ...request }) => {
    const controller = new AbortController();
    let reason: ServerError | undefined;
    const cancel = (why: ServerError): void => {
      reason ??= why;
      controller.abort();
    };
    const cancelDeadline = clock.schedule(timeoutMs, () => {
      const message = `The backend did not answer within ${timeoutMs} ms.`;
      cancel(new ServerError('EMB_BACKEND_TIMEOUT', message, { limit: timeoutMs }));
    });

    async function send(): Promise<TritonReply> {
      try {
        const response = await directFetch(address, {
          ...request,
          // Left to itself the runtime asks for gzip, and Triton then compresses vectors: thirty
          // times slower.
          headers: { ...request.headers, 'Accept-Encoding': 'identity' },
          keepalive: !isFreshConnection,
          signal: controller.signal,
          redirect: 'manual',
        });
        const { status, headers } = response;
        return { status, headers, body: await response.bytes() };
      } catch (cause) {
        throw reason ?? unavailable(`the connection to ${address} failed`, cause);
      } finally {
        cancelDeadline();
      }
    }
    return { reply: send(), cancel };
  };
}

/**
 * What a status other than 200 means: the server is not there for now, or it does not take this
 * batch.
 */
export function refusalOf(reply: TritonReply): ServerError {
  const said = new TextDecoder().decode(reply.body.subarray(0, 500));
  const why = `Triton answered ${reply.status}: ${said}`;
  if (reply.status === 503 || reply.status === 404) return unavailable(why);
  const cause = new Error(why);
  return new ServerError('EMB_BACKEND_FAILED', 'The backend refused this batch.', { cause });
}

/**
 * An EMB_BACKEND_UNAVAILABLE.
 *
 * @param why for the log; the caller is told no more than that the backend is away.
 */
export function unavailable(why: string, cause?: unknown): ServerError {
  return new ServerError('EMB_BACKEND_UNAVAILABLE', 'The backend is not available.', {
    cause: new Error(why, { cause }),
  });
}

/** The HTTP side of an infer request, for a batch as for a probe. The body is borrowed. */
export function inferCallOf(
  modelUrl: string,
  { body, headerBytes }: InferRequest,
): Pick<TritonRequest, 'address' | 'method' | 'body'> & { headers: Record<string, string> } {
  return {
    address: `${modelUrl}/infer`,
    method: 'POST',
    body,
    headers: {
      'Content-Type': 'application/octet-stream',
      'Inference-Header-Content-Length': String(headerBytes),
    },
  };
}

/**
 * What an infer reply says.
 *
 * @throws ServerError as `refusalOf` for a status other than 200, and as `decodeInferReply`.
 */
export function inferOutputOf(
  reply: TritonReply,
  asked: { signature: TritonSignature; batch: TokenBatch },
): BatchOutput {
  if (reply.status !== 200) throw refusalOf(reply);
  const length = reply.headers.get('inference-header-content-length');
  const headerBytes = length === null ? null : Number(length);
  return decodeInferReply(reply.body, headerBytes, asked);
}

/** The HTTP side of a request whose tensors lie in a region. */
export function sharedCallOf(
  modelUrl: string,
  body: Uint8Array<ArrayBuffer>,
): Pick<TritonRequest, 'address' | 'method' | 'body'> & { headers: Record<string, string> } {
  const headers = { 'Content-Type': 'application/json' };
  return { address: `${modelUrl}/infer`, method: 'POST', body, headers };
}

/** Whether Triton says that it does not know the region: it was restarted since. */
export function isUnknownRegion({ status, body }: TritonReply): boolean {
  if (status === 200) return false;
  const said = new TextDecoder().decode(body.subarray(0, 500));
  return said.includes('Unable to find') && said.includes('shared memory region');
}

/** How batches travel to one Triton server and back. */
export interface BatchTransport {
  /** Runs one batch, once. */
  send(batch: TokenBatch, signature: TritonSignature, how: SendOptions): Promise<BatchOutput>;
  /** Ends every call that is on its way. */
  giveUp(reason: ServerError): void;
}

/** A region that one batch has to itself. Exactly one of `free` and `abandon` is called. */
export interface SharedSlot extends SharedRegion {
  /** Triton has answered, and nobody reads what it wrote any more. */
  free(): void;
  /**
   * The call was given up, and Triton may write into the region at any time: nobody reads it again.
   */
  abandon(): void;
}

/** How a batch is sent. */
export interface SendOptions {
  /** A pooled connection may be half open; a fresh one tells of the server. */
  readonly isFreshConnection: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Request buffers kept for reuse: as many as batches usually are in flight. */
const BUFFERS_KEPT = 4;

/**
 * @param options.takeSlot gives a region that holds so many bytes; without one the batch goes over
 * HTTP.
 * @param options.onAnswer called with each answer, whatever it says.
 * @param options.onForgotten called when the server does not know a region: it was restarted,
 * faster than it was missed. Resolves to whether it serves the model still.
 */
export function createBatchTransport(options: {
  url: string;
  modelUrl: string;
  ownHeaders: Readonly<Record<string, string>>;
  timeoutMs: number;
  takeSlot: ((bytes: number) => SharedSlot | undefined) | undefined;
  call: TritonCall;
  onAnswer: () => void;
  onForgotten: () => Promise<boolean>;
}): BatchTransport {
  const { url, modelUrl, ownHeaders, timeoutMs, takeSlot, call } = options;
  const alignment = new ReplyAlignment();
  const buffers: ArrayBuffer[] = [];
  const openCalls = new LinkedList<OpenCall>();

  /** Over shared memory where a slot is free and large enough, over HTTP otherwise. */
  async function send(
    batch: TokenBatch,
    signature: TritonSignature,
    how: SendOptions,
  ): Promise<BatchOutput> {
    const layout = takeSlot === undefined ? undefined : layoutOf(batch, signature);
    const slot = layout === undefined ? undefined : takeSlot?.(layout.bytes);
    if (slot === undefined || layout === undefined) {
      return await sendOverHttp(batch, signature, how);
    }
    const place = { region: slot, layout };
    let reply: TritonReply;
    try {
      const body = encodeSharedRequest(batch, signature, place);
      reply = await answerOf(sharedCallOf(modelUrl, body), how);
    } catch (error) {
      slot.abandon();
      throw error;
    }
    try {
      if (!isUnknownRegion(reply)) {
        if (reply.status !== 200) throw refusalOf(reply);
        const output = decodeSharedReply(reply.body, { signature, batch }, place);
        return { ...output, servedBy: url, giveBack: slot.free };
      }
    } catch (error) {
      slot.free();
      throw error;
    }
    const isServing = options.onForgotten();
    slot.free();
    if (!(await isServing)) throw unavailable(`${url} was restarted with what cannot serve`);
    return await sendOverHttp(batch, signature, how);
  }

  async function sendOverHttp(
    batch: TokenBatch,
    signature: TritonSignature,
    how: SendOptions,
  ): Promise<BatchOutput> {
    const { dimension } = signature;
    const id = alignment.idFor(batch, dimension);
    const request = encodeInferRequest(batch, signature, takeBuffer, id);
    const reply = await answerOf(inferCallOf(modelUrl, request), how);
    // Only now has the whole request been read by the other side; a failed call never gives its
    // buffer back.
    if (buffers.length < BUFFERS_KEPT) buffers.push(request.body.buffer);
    const output = inferOutputOf(reply, { signature, batch });
    const headerBytes = Number(reply.headers.get('inference-header-content-length'));
    alignment.learn(batch, dimension, { idLength: id.length, headerBytes });
    return { ...output, servedBy: url };
  }

  /** Sends one request, which ends when nobody waits for it or the endpoint goes down. */
  async function answerOf(
    asked: ReturnType<typeof inferCallOf>,
    { isFreshConnection, signal }: SendOptions,
  ): Promise<TritonReply> {
    const headers = { ...asked.headers, ...ownHeaders };
    const open = call({ ...asked, headers, isFreshConnection, timeoutMs });
    const onAbort = (): void => open.cancel(nobodyWaits());
    const link = openCalls.add(open);
    signal?.addEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
    try {
      const reply = await open.reply;
      options.onAnswer();
      return reply;
    } finally {
      openCalls.remove(link);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  function takeBuffer(bytes: number): ArrayBuffer {
    const kept = buffers.pop();
    return kept !== undefined && kept.byteLength >= bytes
      ? kept
      : new ArrayBuffer(2 ** Math.ceil(Math.log2(bytes)));
  }

  return {
    send,
    giveUp(reason) {
      for (const open of openCalls) open.cancel(reason);
    },
  };
}

function nobodyWaits(): ServerError {
  return new ServerError('EMB_REQUEST_ABORTED', 'Nobody waits for this batch any more.');
}

/**
 * Aligns the rows of replies. A reply's rows start where its JSON header ends, wherever that is,
 * and rows off a multiple of four bytes would each be copied before they can be read as float32.
 * The request's id stands in the header, so its length moves the rows to such a place.
 *
 *     header = what never changes + id + digits of the batch's sizes
 *
 * The part that never changes is learned from each reply. Where it was guessed wrong, rows are
 * copied and nothing else is lost.
 */
export class ReplyAlignment {
  readonly #fixedLengths = new Map<readonly Head[], number>();

  /** The id to send with a batch. */
  idFor(batch: TokenBatch, dimension: number): string {
    const fixed = this.#fixedLengths.get(batch.heads) ?? 0;
    return 'rows'.slice(0, -(fixed + digitCountOf(batch, dimension)) & 3 || 4);
  }

  /** Learns from a reply to a batch that had `idFor`'s id. */
  learn(
    batch: TokenBatch,
    dimension: number,
    reply: { idLength: number; headerBytes: number },
  ): void {
    const { idLength, headerBytes } = reply;
    this.#fixedLengths.set(batch.heads, headerBytes - idLength - digitCountOf(batch, dimension));
  }
}

/** Digits in a reply's header that differ between batches: of shapes and byte counts. */
function digitCountOf({ texts, paddedLength, heads }: TokenBatch, dimension: number): number {
  const textCount = texts.length;
  let count = 0;
  for (const head of heads) {
    const byteCount = 4 * textCount * valuesPerText(head, { dimension, paddedLength });
    count += `${textCount}${byteCount}`.length;
    if (head === 'sparse') count += `${paddedLength}`.length;
    if (head === 'multi_vector') count += `${paddedLength - 1}`.length;
  }
  return count;
}
