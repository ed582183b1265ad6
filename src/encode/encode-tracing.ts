import type { Backend } from '../backend/contract.ts';
import type { TritonCall } from '../backend/triton/triton-call.ts';
import type { Clock } from '../base/clock.ts';
import type { MicroBatcher } from '../batcher/micro-batcher.ts';
import type { RequestTrace, Tracing } from '../observe/tracing.ts';
import type { TokenizerPool } from '../tokenizer/pool/tokenizer-pool.ts';

/** Parts of the journey that tell their stages to a trace; made only when tracing is on. */
export interface PartsTracer {
  tokenizer(pool: TokenizerPool): TokenizerPool;
  batcher(batcher: MicroBatcher): MicroBatcher;
  backend(backend: Backend): Backend;
  tritonCall(call: TritonCall): TritonCall;
}

/**
 * Watches the parts from outside, so that none of them knows of tracing. Requests are known by the
 * asynchronous scope in which they run; a batch knows its requests by the token ids that it
 * carries, which are the very arrays that the requests gave to the batcher.
 */
export function createPartsTracer(options: { tracing: Tracing; clock: Clock }): PartsTracer {
  const { tracing, clock } = options;
  const ownerByIds = new WeakMap<Int32Array, RequestTrace>();
  return {
    tokenizer: (pool) =>
      replacing(pool, {
        async tokenize(...words) {
          const startMs = clock.now();
          const tell = (error?: unknown): void =>
            tracing.current()?.stage('tokenize', { startMs, endMs: clock.now(), error });
          return await told(pool.tokenize(...words), tell);
        },
      }),
    batcher: (batcher) =>
      replacing(batcher, {
        async submit(job) {
          const owner = tracing.current();
          if (owner === undefined) return await batcher.submit(job);
          for (const ids of job.texts) ownerByIds.set(ids, owner);
          const startMs = clock.now();
          const tell = (error?: unknown): void =>
            owner.stage('queue', { startMs, endMs: clock.now(), error });
          const result = await batcher.submit(job).catch((error) => {
            tell(error);
            throw error;
          });
          const endMs = clock.now();
          // Of several batches, the longest wait and the longest batch: they may overlap.
          owner.stage('queue', { startMs, endMs: startMs + result.queueMs });
          const error = result.outcomes.find((outcome) => outcome instanceof Error);
          owner.stage('infer', { startMs: endMs - result.inferMs, endMs, error });
          return result;
        },
      }),
    backend: (backend) =>
      replacing(backend, {
        infer(batch, given) {
          const owners = new Set<RequestTrace>();
          for (const ids of batch.texts) {
            const owner = ownerByIds.get(ids);
            if (owner !== undefined) owners.add(owner);
          }
          const attributes = {
            'batch.texts': batch.texts.length,
            'batch.padded_length': batch.paddedLength,
            'batch.heads': batch.heads.join(','),
            'batch.repeated_away_from': given?.avoid ?? '',
          };
          return tracing.batch({ owners, attributes }, () => backend.infer(batch, given));
        },
      }),
    tritonCall: (call) => (request) => {
      const traced = tracing.call(request.address, (traceparent) => {
        const result = call({ ...request, headers: { ...request.headers, traceparent } });
        return { result, done: result.reply };
      });
      return traced ?? call(request);
    },
  };
}

async function told<Result>(
  work: Promise<Result>,
  tell: (error?: unknown) => void,
): Promise<Result> {
  try {
    const result = await work;
    tell();
    return result;
  } catch (error) {
    tell(error);
    throw error;
  }
}

/** A part of which some methods are others; its getters stay as live as they were. */
function replacing<Part extends object>(part: Part, methods: Partial<Part>): Part {
  return new Proxy(part, {
    get: (target, key) => Reflect.get(key in methods ? methods : target, key),
  });
}
