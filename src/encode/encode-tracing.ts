import type { Backend } from '../backend/contract.ts';
import type { TritonCall } from '../backend/triton/triton-call.ts';
import type { Clock } from '../base/clock.ts';
import type { JobResult } from '../batcher/pending-request.ts';
import type { RequestTrace, Tracing } from '../observe/tracing.ts';

/**
 * Tells the stages of a traced request and of a traced batch.
 *
 * A request brings its trace along: `encode` tells its stages, the batcher hands the traces of a
 * batch's requests to the backend. A request that is not traced brings nothing and passes none of
 * this file.
 */

/** Tells how long a request's texts were tokenized. */
export async function traceTokenize<Result>(
  trace: RequestTrace,
  tokenized: Result | Promise<Result>,
  clock: Clock,
): Promise<Result> {
  const startMs = clock.now();
  try {
    const result = await tokenized;
    trace.stage('tokenize', { startMs, endMs: clock.now() });
    return result;
  } catch (error) {
    trace.stage('tokenize', { startMs, endMs: clock.now(), error });
    throw error;
  }
}

/** Tells how long a request's texts waited, and the batches that they rode in. */
export async function traceBatching(
  trace: RequestTrace,
  submitted: Promise<JobResult>,
  clock: Clock,
): Promise<JobResult> {
  const startMs = clock.now();
  try {
    const result = await submitted;
    const endMs = clock.now();
    // Of several batches, the longest wait and the longest batch: they may overlap.
    trace.stage('queue', { startMs, endMs: startMs + result.queueMs });
    const error = result.outcomes.find((outcome) => outcome instanceof Error);
    trace.stage('infer', { startMs: endMs - result.inferMs, endMs, error });
    return result;
  } catch (error) {
    trace.stage('queue', { startMs, endMs: clock.now(), error });
    throw error;
  }
}

/** A backend that tells the batches of traced requests; made only when tracing is on. */
export function tracedBackend(backend: Backend, tracing: Tracing): Backend {
  const infer: Backend['infer'] = (batch, given) => {
    const traces = given?.traces;
    if (traces === undefined) return backend.infer(batch, given);
    const attributes = {
      'batch.texts': batch.texts.length,
      'batch.padded_length': batch.paddedLength,
      'batch.heads': batch.heads.join(','),
      'batch.repeated_away_from': given?.avoid ?? '',
    };
    return tracing.batch({ traces, attributes }, () => backend.infer(batch, given));
  };
  // All but `infer` stays as live as it was, getters included.
  return new Proxy(backend, {
    get: (target, key) => (key === 'infer' ? infer : Reflect.get(target, key)),
  });
}

/** Calls to Triton that are told as a part of their batch, and send its `traceparent` along. */
export function tracedCall(call: TritonCall, tracing: Tracing): TritonCall {
  return (request) => {
    const traced = tracing.call(request.address, (traceparent) => {
      const result = call({ ...request, headers: { ...request.headers, traceparent } });
      return { result, done: result.reply };
    });
    return traced ?? call(request);
  };
}
