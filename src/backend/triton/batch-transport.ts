import { ServerError } from '../../base/errors.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import type { SharedMemory } from './shared-memory.ts';
import {
  decodeSharedReply,
  encodeSharedRequest,
  inferCallOf,
  inferOutputOf,
  isUnknownRegion,
  layoutOf,
  type OpenCall,
  refusalOf,
  sharedCallOf,
  type TritonCall,
  type TritonReply,
} from './triton-call.ts';
import type { TritonModel } from './triton-model.ts';
import { encodeInferRequest, ReplyAlignment } from './triton-wire.ts';

/** How batches travel to one Triton server and back. */
export interface BatchTransport {
  /** Runs one batch, once. */
  send(batch: TokenBatch, model: TritonModel, how: SendOptions): Promise<BatchOutput>;
  /** Ends every call that is on its way. */
  giveUp(reason: ServerError): void;
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
 * @param options.onAnswer called with each answer, whatever it says.
 * @param options.onFailure called when a server that was restarted cannot be had back.
 */
export function createBatchTransport(options: {
  url: string;
  modelUrl: string;
  ownHeaders: Readonly<Record<string, string>>;
  timeoutMs: number;
  shared: SharedMemory | undefined;
  call: TritonCall;
  onAnswer: () => void;
  onFailure: (error: unknown) => void;
}): BatchTransport {
  const { url, modelUrl, ownHeaders, timeoutMs, shared, call, onAnswer, onFailure } = options;
  const alignment = new ReplyAlignment();
  const buffers: ArrayBuffer[] = [];
  const openCalls = new Set<OpenCall>();

  /** Over shared memory where a slot is free and large enough, over HTTP otherwise. */
  async function send(
    batch: TokenBatch,
    found: TritonModel,
    how: SendOptions,
  ): Promise<BatchOutput> {
    const layout = shared === undefined ? undefined : layoutOf(batch, found.signature);
    const slot = layout === undefined ? undefined : shared?.take(layout.bytes);
    if (slot === undefined || layout === undefined) return await sendOverHttp(batch, found, how);
    const place = { region: slot, layout };
    const asked = { signature: found.signature, batch };
    let reply: TritonReply;
    try {
      const body = encodeSharedRequest(batch, found.signature, place);
      reply = await answerOf(sharedCallOf(modelUrl, body), how);
    } catch (error) {
      slot.abandon();
      throw error;
    }
    try {
      if (!isUnknownRegion(reply)) {
        if (reply.status !== 200) throw refusalOf(reply);
        const output = decodeSharedReply(reply, asked, place);
        return { ...output, servedBy: url, giveBack: slot.free };
      }
    } catch (error) {
      slot.free();
      throw error;
    }
    slot.free();
    // It was restarted, faster than it was missed.
    void shared?.connect(found).catch(onFailure);
    return await sendOverHttp(batch, found, how);
  }

  async function sendOverHttp(
    batch: TokenBatch,
    { signature }: TritonModel,
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
    openCalls.add(open);
    signal?.addEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
    try {
      const reply = await open.reply;
      onAnswer();
      return reply;
    } finally {
      openCalls.delete(open);
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
