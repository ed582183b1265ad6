import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { invariant } from '../../base/invariant.ts';
import type { Log } from '../../base/log.ts';
import { createWorkerHost, type WorkerHost } from '../../base/worker-host.ts';
import { FloatBlock } from '../../vectors/float-block.ts';
import { type Head, valuesPerText } from '../../vectors/head.ts';
import {
  type Backend,
  BackendFault,
  type BackendLimits,
  type BatchOutput,
  type TokenBatch,
} from '../backend.ts';
import {
  type InferenceFacts,
  type InferenceGreeting,
  type InferenceMessage,
  type InferenceReply,
  tokensOfJob,
} from './inference-protocol.ts';

/** The embedded backend, and the promise of its first start. */
export interface EmbeddedBackend extends Backend {
  /** Settles when every worker has loaded the model, or has failed for good. */
  readonly started: Promise<void>;
}

interface Slot {
  readonly host: WorkerHost<InferenceMessage, InferenceFacts>;
  readonly jobs: Map<number, OpenJob>;
}

interface OpenJob {
  readonly batch: { readonly textCount: number; readonly paddedLength: number };
  readonly heads: readonly Head[];
  resolve(output: BatchOutput): void;
  reject(error: ServerError): void;
}

const READY = { isReady: true, reason: '' } as const;

/**
 * Runs an ONNX model in worker threads, one session in each.
 *
 * A CPU is no GPU: sessions of one thread side by side, one text at a time, were the fastest layout
 * measured, and a text's vector cannot depend on batch neighbours that it does not have. Several
 * short texts ride in one message all the same: each wakes the main thread, and a thread that wakes
 * beside an inference finds its code and data gone from the caches.
 */
export function createEmbeddedBackend(options: {
  slotCount: number;
  /** Texts that ride in one message to a worker, and tokens of them together. */
  messageTextsMax: number;
  messageTokensMax: number;
  workerUrl: URL;
  greeting: InferenceGreeting;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): EmbeddedBackend {
  const { greeting } = options;
  const { dimension } = greeting;
  const slots: Slot[] = [];
  const heads = Object.keys(greeting.outputs) as Head[];
  let limits: BackendLimits = {
    slotCount: 1,
    endpointCount: 1,
    batchTextsMax: options.messageTextsMax,
    batchTokensMax: options.messageTokensMax,
    multiVectorTokensMax: options.messageTokensMax,
    launchTokens: 0,
    isOneByOne: true,
  };
  let nextJobId = 1;

  for (let index = 0; index < options.slotCount; index++) {
    const host = createWorkerHost<
      InferenceGreeting,
      InferenceMessage,
      InferenceReply,
      InferenceFacts
    >({
      ...options,
      greeting: index === 0 ? greeting : { ...greeting, wideThreadCount: 0 },
      farewell: 'end',
      name: `inference-${index}`,
      url: options.workerUrl,
      onReply: (reply) => onReply(slots[index], reply),
      onDeath: (why) => failAll(slots[index], diedOf(why)),
    });
    slots.push({ host, jobs: new Map() });
  }

  /** Asked for each request: nothing is allocated here. */
  function runningCount(): number {
    let count = 0;
    for (const slot of slots) if (slot.host.facts !== undefined) count++;
    return count;
  }

  function infer(batch: TokenBatch): Promise<BatchOutput> {
    const running = slots.filter((slot) => slot.host.facts !== undefined);
    if (running.length === 0) return Promise.reject(unavailable(slots[0].host.reason));
    const idlest = running.reduce((best, slot) => (slot.jobs.size < best.jobs.size ? slot : best));
    const textCount = batch.texts.length;
    // The first slot has a session over all cores, for a text that has them to itself.
    const isAlone = textCount === 1 && slots.every((slot) => slot.jobs.size === 0);
    const tokens = tokensOfJob(batch.texts);
    const jobId = nextJobId++;
    return new Promise((resolve, reject) => {
      const { paddedLength, heads } = batch;
      idlest.jobs.set(jobId, { batch: { textCount, paddedLength }, heads, resolve, reject });
      idlest.host.send({ jobId, ...tokens, heads, isAlone }, [tokens.ids.buffer]);
    });
  }

  function onReply(slot: Slot, reply: InferenceReply): void {
    const job = slot.jobs.get(reply.jobId);
    invariant(job !== undefined, 'an inference worker answers jobs it was given, once');
    slot.jobs.delete(reply.jobId);
    if ('reason' in reply) {
      const cause = new BackendFault(reply.reason, { servedBy: 'embedded', isDeath: false });
      job.reject(
        new ServerError('EMB_BACKEND_FAILED', 'The model failed on this batch.', { cause }),
      );
      return;
    }
    const output: { -readonly [H in Head]?: FloatBlock } & { servedBy: string } = {
      servedBy: 'embedded',
    };
    for (const head of job.heads) {
      const values = reply.outputs[head];
      const each = valuesPerText(head, { dimension, paddedLength: job.batch.paddedLength });
      const isWhole = values?.length === job.batch.textCount * each;
      invariant(values !== undefined && isWhole, 'an inference worker answers each head whole');
      output[head] = FloatBlock.of(values);
    }
    job.resolve(output);
  }

  function failAll(slot: Slot, error: ServerError): void {
    const open = [...slot.jobs.values()];
    slot.jobs.clear();
    for (const job of open) job.reject(error);
  }

  /** Once for all workers: they read the same file. */
  function tellRefusal(): void {
    const refused = slots.find((slot) => slot.host.facts?.mappedRefusal !== undefined);
    const reason = refused?.host.facts?.mappedRefusal;
    if (reason !== undefined) options.log.warn('mapped-weights-refused', { reason });
  }

  return {
    name: 'embedded',
    isInProcess: true,
    limits() {
      const slotCount = Math.max(1, runningCount());
      if (slotCount !== limits.slotCount) {
        limits = { ...limits, slotCount, endpointCount: slotCount };
      }
      return limits;
    },
    heads: () => heads,
    state() {
      return runningCount() > 0 ? READY : { isReady: false, reason: slots[0].host.reason };
    },
    infer,
    started: Promise.all(slots.map((slot) => slot.host.started)).then(tellRefusal),
    async close() {
      for (const slot of slots) {
        slot.host.close();
        failAll(slot, unavailable('The server is shutting down.'));
      }
    },
  };
}

function diedOf(why: string): ServerError {
  const message = 'The worker that ran this text has died; it is being replaced.';
  return new ServerError('EMB_BACKEND_FAILED', message, {
    cause: new BackendFault(why, { servedBy: 'embedded', isDeath: true }),
  });
}

function unavailable(why: string): ServerError {
  return new ServerError('EMB_BACKEND_UNAVAILABLE', 'The embedded model is not running.', {
    cause: new Error(why),
  });
}
