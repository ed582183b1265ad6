import { createCancellation, Deadlines } from '../base/cancellation.ts';
import {
  demandOf,
  joinOutputs,
  refuseLargeReply,
  refuseLongTexts,
  refuseManyTokens,
  refuseMissingHeads,
  refuseWhileDown,
  withPrefix,
} from './checks.ts';
import type { Encode, EncodeResult, Parts } from './contract.ts';
import { traceBatching, traceTokenize } from './encode-tracing.ts';

/**
 * Makes the journey out of its parts.
 *
 * It throws ServerError: EMB_HEAD_UNAVAILABLE, EMB_TEXT_TOO_LONG, EMB_REPLY_TOO_LARGE,
 * EMB_QUEUE_FULL, EMB_SHUTTING_DOWN, EMB_TOKENIZER_FAILED, EMB_BACKEND_*, EMB_OUTPUT_INVALID,
 * EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED; and what a follow-up throws.
 */
export function createEncode(parts: Parts): Encode {
  const { admission, tokenizer, batcher, clock, limits } = parts;
  const deadlines = new Deadlines(clock);
  return async function encode(request) {
    refuseWhileDown(parts);
    refuseMissingHeads(parts, request);
    refuseLongTexts(parts, request);
    const permit = admission.admit(demandOf(parts, request));
    const { signal, heads, truncationSide, followUp, trace } = request;
    const timeoutMs = Math.min(request.timeoutMs ?? Infinity, limits.requestTimeoutMs);
    const cancellation = createCancellation({ clock: deadlines, timeoutMs, signal });
    try {
      const startMs = clock.now();
      const prefixed = withPrefix(parts, request);
      const tokenizing = tokenizer.tokenize(prefixed, cancellation, truncationSide);
      const tokenized = await (trace ? traceTokenize(trace, tokenizing, clock) : tokenizing);
      const tokenizeMs = clock.now() - startMs;
      refuseManyTokens(parts, request, tokenized);
      refuseLargeReply(parts, request, tokenized);
      const tokenIds = tokenized.map((text) => text.tokenIds);
      permit.tokenized(tokenIds.reduce((sum, ids) => sum + ids.length, 0));
      followUp?.plan(tokenIds.map((ids) => ids.length));
      const batchTextsMax = request.batchTextsMax ?? Number.POSITIVE_INFINITY;
      const batching = batcher.submit({ tokenIds, heads, batchTextsMax, cancellation, trace });
      const job = await (trace ? traceBatching(trace, batching, clock) : batching);
      const { outcomes, queueMs, inferMs, servedBy } = job;
      const outputs = joinOutputs(request, { tokenized, outcomes });
      const standIn = servedBy === parts.backend.standIn ? servedBy : undefined;
      const timings = { tokenizeMs, queueMs, inferMs };
      const result: EncodeResult = { ...outputs, servedBy, standIn, timings };
      if (followUp !== undefined) await followUp.run(result, cancellation);
      return result;
    } finally {
      cancellation.release();
      permit.release();
    }
  };
}
