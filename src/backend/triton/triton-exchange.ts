import type { BatchOutput, TokenBatch } from '../backend.ts';
import { refusalOf, type TritonReply, type TritonRequest } from './triton-call.ts';
import { decodeInferReply, type InferRequest, type TritonSignature } from './triton-wire.ts';

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
