import { createCancellation, Deadlines } from '../base/cancellation.ts';
import type { JobResult } from '../batcher/micro-batcher.ts';
import {
  cutToRequest,
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

/** The rows of all texts are known. */
const NOTHING_TO_DO: Promise<JobResult> = Promise.resolve({
  outcomes: [],
  queueMs: 0,
  inferMs: 0,
  servedBy: undefined,
});

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
    const { signal, heads, truncationSide, followUp, trace } = request;
    const arrivedMs = clock.now();
    const permit = await admission.enter(demandOf(parts, request), signal);
    // The caller's own deadline counts from its arrival, the server's from here.
    const leftMs = (request.timeoutMs ?? Infinity) - (clock.now() - arrivedMs);
    const timeoutMs = Math.min(leftMs, limits.requestTimeoutMs);
    const cancellation = createCancellation({ clock: deadlines, timeoutMs, signal });
    try {
      const startMs = clock.now();
      const prefixed = withPrefix(parts, request);
      const tokenizing = tokenizer.tokenize(prefixed, cancellation, truncationSide);
      const whole = await (trace ? traceTokenize(trace, tokenizing, clock) : tokenizing);
      const tokenized = cutToRequest(parts, request, whole);
      const tokenizeMs = clock.now() - startMs;
      refuseManyTokens(parts, request, tokenized);
      refuseLargeReply(parts, request, tokenized);
      const tokenIds = tokenized.map((text) => text.tokenIds);
      const bypasses = request.bypassesCache === true;
      const modelStarts = parts.backend.modelStarts ?? 0;
      const lookup = bypasses ? undefined : parts.cache?.look(tokenIds, heads, modelStarts);
      const computed = lookup?.missing ?? tokenIds;
      permit.tokenized(computed.reduce((sum, ids) => sum + ids.length, 0));
      followUp?.plan(tokenIds.map((ids) => ids.length));
      const batchTextsMax = request.batchTextsMax ?? Number.POSITIVE_INFINITY;
      const work = { tokenIds: computed, heads, batchTextsMax, cancellation, trace };
      const batching = computed.length === 0 ? NOTHING_TO_DO : batcher.submit(work);
      const job = await (trace ? traceBatching(trace, batching, clock) : batching);
      const { queueMs, inferMs, servedBy } = job;
      const standIn = servedBy === parts.backend.standIn ? servedBy : undefined;
      const outcomes = lookup?.join(job, standIn === undefined) ?? job.outcomes;
      const outputs = joinOutputs(request, { tokenized, outcomes });
      const cachedTextCount = lookup?.hitCount;
      const timings = { tokenizeMs, queueMs, inferMs, cachedTextCount };
      const result: EncodeResult = { ...outputs, servedBy, standIn, timings };
      if (followUp !== undefined) await followUp.run(result, cancellation);
      return result;
    } finally {
      cancellation.release();
      permit.release();
    }
  };
}
