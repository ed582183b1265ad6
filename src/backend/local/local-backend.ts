import type { Clock } from '../../base/clock.ts';
import { invariant, ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createWorkerHost, type WorkerHost } from '../../base/worker-host.ts';
import { FloatBlock, type Head, valuesPerText } from '../../vectors/output.ts';
import {
  type Backend,
  type BackendCapabilities,
  BackendFault,
  type BatchOutput,
  type TokenBatch,
} from '../contract.ts';
import {
  type InferenceInit,
  type InferenceMessage,
  type InferenceReady,
  type InferenceResponse,
  joinTokenIds,
} from './inference-protocol.ts';
import { MemoryBudget, type TextMemory, textBytes, tokensThatFit } from './memory-budget.ts';

/** The local backend, served under the name `embedded`, and the promise of its first start. */
export interface LocalBackend extends Backend {
  /** Settles when every worker has loaded the model, or has failed for good. */
  readonly started: Promise<void>;
}

interface Slot {
  readonly host: WorkerHost<InferenceMessage, InferenceReady>;
  /** By message id. */
  readonly open: Map<number, OpenRequest>;
}

interface OpenRequest {
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
export function createLocalBackend(options: {
  /** Of the model's file. */
  engine: string;
  slotCount: number;
  /** Workers beyond those: as of the limits. */
  spareSlotCount: number;
  /** Texts that ride in one message to a worker, and tokens of them together. */
  messageTextsMax: number;
  messageTokensMax: number;
  /** What a text takes, and what all that are computed at one time may take. */
  textMemory: TextMemory;
  memoryBytesMax: number;
  workerUrl: URL;
  init: InferenceInit;
  startMsMax: number;
  restartsMax: number;
  /** Called once when the mapped copy failed and the plain file serves. */
  onMappedRefusal: (reason: string) => void;
  clock: Clock;
  log: Log;
}): LocalBackend {
  const { init } = options;
  const { dimension } = init;
  const slots: Slot[] = [];
  let capabilities = capabilitiesOf(options, 1);
  const budget = new MemoryBudget(options.memoryBytesMax);
  let nextMessageId = 1;

  for (let index = 0; index < options.slotCount + options.spareSlotCount; index++) {
    const host = createWorkerHost<
      InferenceInit,
      InferenceMessage,
      InferenceResponse,
      InferenceReady
    >({
      ...options,
      init: index === 0 ? init : { ...init, wideThreadCount: 0 },
      shutdown: 'shutdown',
      name: `inference-${index}`,
      url: options.workerUrl,
      onResponse: (response) => onResponse(slots[index], response),
      onDeath: (why) => failAll(slots[index], unavailable(why), diedOf(why)),
    });
    slots.push({ host, open: new Map() });
  }

  /** Asked for each request: nothing is allocated here. */
  function runningCount(): number {
    let count = 0;
    for (const slot of slots) if (slot.host.ready !== undefined) count++;
    return count;
  }

  /** Texts of a batch are computed one by one: it takes what its longest does. */
  function bytesOf({ paddedLength }: TokenBatch): number {
    return textBytes(options.textMemory, paddedLength);
  }

  function send(batch: TokenBatch): Promise<BatchOutput> {
    const running = slots.filter((slot) => slot.host.ready !== undefined);
    if (running.length === 0) return Promise.reject(unavailable(slots[0].host.reason));
    const idlest = running.reduce((best, slot) => (slot.open.size < best.open.size ? slot : best));
    const textCount = batch.texts.length;
    // The first slot has a session over all cores, for a text that has them to itself.
    const isAlone = textCount === 1 && slots.every((slot) => slot.open.size === 0);
    const joined = joinTokenIds(batch.texts);
    const messageId = nextMessageId++;
    return new Promise((resolve, reject) => {
      const { paddedLength, heads } = batch;
      idlest.open.set(messageId, { batch: { textCount, paddedLength }, heads, resolve, reject });
      idlest.host.send({ messageId, ...joined, heads, isAlone }, [joined.tokenIds.buffer]);
    });
  }

  function onResponse(slot: Slot, response: InferenceResponse): void {
    const request = slot.open.get(response.messageId);
    invariant(request !== undefined, 'an inference worker answers requests it was given, once');
    slot.open.delete(response.messageId);
    if ('reason' in response) {
      const cause = new BackendFault(response.reason, { servedBy: 'embedded', isDeath: false });
      request.reject(
        new ServerError('EMB_BACKEND_FAILED', 'The model failed on this batch.', { cause }),
      );
      return;
    }
    const output: { -readonly [H in Head]?: FloatBlock } & { servedBy: string } = {
      servedBy: 'embedded',
    };
    for (const head of request.heads) {
      const values = response.outputs[head];
      const each = valuesPerText(head, { dimension, paddedLength: request.batch.paddedLength });
      const isWhole = values?.length === request.batch.textCount * each;
      invariant(values !== undefined && isWhole, 'an inference worker answers each head whole');
      output[head] = FloatBlock.of(values);
    }
    request.resolve(output);
  }

  return {
    name: 'embedded',
    engine: options.engine,
    isInProcess: true,
    isUnstoppable: true,
    capabilities() {
      const count = Math.max(1, runningCount());
      if (count !== capabilities.slotCount + capabilities.spareSlotCount) {
        capabilities = capabilitiesOf(options, count);
      }
      return capabilities;
    },
    state() {
      return runningCount() > 0 ? READY : { isReady: false, reason: slots[0].host.reason };
    },
    infer: (batch) => budget.during(bytesOf(batch), () => send(batch)),
    // A worker that computes wrongly is like all others: they read the same file.
    doubt: async () => undefined,
    started: Promise.all(slots.map((slot) => slot.host.started)).then(() =>
      tellOfRefusal(slots, options.onMappedRefusal),
    ),
    async close() {
      for (const slot of slots) {
        slot.host.close();
        failAll(slot, unavailable('The server is shutting down.'));
      }
    },
  };
}

/** Of so many workers. Those beyond the slots are spare. */
function capabilitiesOf(
  options: Parameters<typeof createLocalBackend>[0],
  workerCount: number,
): BackendCapabilities & { readonly spareSlotCount: number } {
  const slotCount = Math.min(workerCount, options.slotCount);
  return {
    heads: Object.keys(options.init.outputs) as Head[],
    slotCount,
    spareSlotCount: workerCount - slotCount,
    endpointCount: slotCount,
    batchTextsMax: options.messageTextsMax,
    batchTokensMax: options.messageTokensMax,
    multiVectorTokensMax: options.messageTokensMax,
    launchTokens: 0,
    isOneByOne: true,
    textTokensMax: tokensThatFit(options.textMemory, options.memoryBytesMax),
  };
}

/** Once for all workers: they read the same file. */
function tellOfRefusal(slots: readonly Slot[], tell: (reason: string) => void): void {
  const refused = slots.find((slot) => slot.host.ready?.mappedRefusal !== undefined);
  const reason = refused?.host.ready?.mappedRefusal;
  if (reason !== undefined) tell(reason);
}

/** @param firstError of the oldest request: a worker takes them one by one, and it was in work. */
function failAll({ open }: Slot, error: ServerError, firstError = error): void {
  const [first, ...others] = open.values();
  open.clear();
  first?.reject(firstError);
  for (const request of others) request.reject(error);
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
