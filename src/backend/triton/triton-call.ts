import type { Clock } from '../../base/clock.ts';
import { directFetch } from '../../base/direct-fetch.ts';
import { invariant, ServerError } from '../../base/errors.ts';
import { FloatBlock, type Head, valuesPerText } from '../../vectors/output.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import {
  decodeInferReply,
  type InferRequest,
  readOutputs,
  type TritonSignature,
  writeTokenTensors,
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
    retryAfterMs: 1000,
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

/**
 * Triton's shared memory extension: tensors lie in a region that both processes have mapped, and
 * HTTP carries only their names, places and sizes.
 *
 * Source: `docs/protocol/extension_shared_memory.md` of triton-inference-server/server.
 */

/** A region as a request needs it: what Triton calls it, and our mapping of it. */
export interface SharedRegion {
  readonly name: string;
  readonly memory: Uint8Array<ArrayBuffer>;
}

/** Where a batch's tensors lie in a region, in bytes from its start. */
export interface SharedLayout {
  readonly tensorBytes: number;
  readonly outputs: readonly {
    readonly head: Head;
    readonly from: number;
    readonly bytes: number;
  }[];
  /** What all of them take. */
  readonly bytes: number;
}

/** Tensors start at a cache line, so that two of them never share one. */
const ALIGNMENT = 64;

/** Plans ids, mask and outputs of a batch one after the other. Pure. */
export function layoutOf(batch: TokenBatch, signature: TritonSignature): SharedLayout {
  const { dimension, inputDatatype } = signature;
  const { texts, paddedLength, heads } = batch;
  const tensorBytes = texts.length * paddedLength * (inputDatatype === 'INT64' ? 8 : 4);
  let bytes = 2 * aligned(tensorBytes);
  const outputs = heads.map((head) => {
    const from = bytes;
    const size = 4 * texts.length * valuesPerText(head, { dimension, paddedLength });
    bytes += aligned(size);
    return { head, from, bytes: size };
  });
  return { tensorBytes, outputs, bytes };
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

const encoder = new TextEncoder();

/**
 * Writes a batch's ids and mask into a region, and the request that names them.
 *
 * Each row of the outputs is marked with NaN first. A Triton that answered without having written
 * would otherwise hand out the rows of the batch before; the output guard takes NaN for no row.
 *
 * @param batch borrowed. The region is the caller's alone until Triton has answered.
 */
export function encodeSharedRequest(
  batch: TokenBatch,
  signature: TritonSignature,
  { region, layout }: { region: SharedRegion; layout: SharedLayout },
): Uint8Array<ArrayBuffer> {
  const { name, memory } = region;
  const { tensorBytes, outputs } = layout;
  invariant(layout.bytes <= memory.length, 'the region holds the batch');
  const wordsPerValue = signature.inputDatatype === 'INT64' ? 2 : 1;
  const words = (from: number): Int32Array<ArrayBuffer> =>
    new Int32Array(memory.buffer, memory.byteOffset + from, tensorBytes / 4);
  const maskFrom = aligned(tensorBytes);
  const tensors = { ids: words(0), mask: words(maskFrom) };
  writeTokenTensors(batch, { padId: signature.padId, wordsPerValue, ...tensors });
  for (const { head, from, bytes } of outputs) {
    const values = new Float32Array(memory.buffer, memory.byteOffset + from, bytes / 4);
    const rowLength = head === 'sparse' ? batch.paddedLength : signature.dimension;
    for (let at = 0; at < values.length; at += rowLength) values[at] = Number.NaN;
  }
  const place = (from: number, bytes: number): object => ({
    shared_memory_region: name,
    shared_memory_offset: from,
    shared_memory_byte_size: bytes,
  });
  const input = (tensor: string, from: number): object => ({
    name: tensor,
    shape: [batch.texts.length, batch.paddedLength],
    datatype: signature.inputDatatype,
    parameters: place(from, tensorBytes),
  });
  return encoder.encode(
    JSON.stringify({
      inputs: [input(signature.idsInput, 0), input(signature.maskInput, maskFrom)],
      outputs: outputs.map(({ head, from, bytes }) => ({
        name: signature.outputs[head],
        parameters: place(from, bytes),
      })),
    }),
  );
}

/** The HTTP side of a request whose tensors lie in a region. */
export function sharedCallOf(
  modelUrl: string,
  body: Uint8Array<ArrayBuffer>,
): Pick<TritonRequest, 'address' | 'method' | 'body'> & { headers: Record<string, string> } {
  const headers = { 'Content-Type': 'application/json' };
  return { address: `${modelUrl}/infer`, method: 'POST', body, headers };
}

/**
 * What a batch got, as views of the region: the region may be used again once nobody reads them.
 *
 * @throws ServerError EMB_OUTPUT_INVALID for anything else than exactly the heads that the batch
 * asked for, in their shapes.
 */
export function decodeSharedReply(
  reply: TritonReply,
  asked: { signature: TritonSignature; batch: TokenBatch },
  { region, layout }: { region: SharedRegion; layout: SharedLayout },
): BatchOutput {
  const result: { -readonly [H in Head]?: FloatBlock } = {};
  const bytesOf = (head: Head): number =>
    layout.outputs.find((output) => output.head === head)?.bytes ?? 0;
  for (const head of readOutputs(reply.body, asked, bytesOf)) {
    const place = layout.outputs.find((output) => output.head === head);
    invariant(place !== undefined, 'an output that was asked for has its place');
    result[head] = new FloatBlock(region.memory.subarray(place.from, place.from + place.bytes));
  }
  return result;
}

/** Whether Triton says that it does not know the region: it was restarted since. */
export function isUnknownRegion({ status, body }: TritonReply): boolean {
  if (status === 200) return false;
  const said = new TextDecoder().decode(body.subarray(0, 500));
  return said.includes('Unable to find') && said.includes('shared memory region');
}
