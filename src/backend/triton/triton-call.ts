import type { Clock } from '../../base/clock.ts';
import { directFetch } from '../../base/direct-fetch.ts';
import { ServerError } from '../../base/errors.ts';
import type { BatchOutput, TokenBatch } from '../contract.ts';
import { decodeInferReply, type InferRequest, type TritonSignature } from './triton-wire.ts';

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
