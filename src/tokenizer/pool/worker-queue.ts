import type { Clock } from '../../base/clock.ts';
import { invariant, ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { createWorkerHost } from '../../base/worker-host.ts';
import type {
  TokenizerInit,
  TokenizerReady,
  TokenizerRequest,
  TokenizerResponse,
} from './tokenizer-protocol.ts';

/** A request without the id that the queue gives it. */
export type QueuedRequest = Omit<TokenizerRequest, 'messageId'>;

/** One tokenizer worker and the requests that wait for it. */
export interface WorkerQueue {
  /** Undefined while no worker runs. */
  readonly ready: TokenizerReady | undefined;
  /** Why no worker runs; empty while one does. */
  readonly reason: string;
  readonly started: Promise<void>;
  /** UTF-16 units of the requests that have no response yet. */
  readonly load: number;
  /**
   * Queues a request. It leaves when the worker has nearly finished those before it, and short
   * requests overtake long ones. Exactly one of `done` and `failed` is called, once. Neither is
   * called for a request that is unwanted by the time it would leave.
   */
  send(request: QueuedRequest, settlement: Settlement): void;
  /** Ends the worker; its requests fail. */
  close(): void;
}

/** What becomes of a request. */
export interface Settlement {
  done(response: TokenizerResponse): void;
  /**
   * @param death where the request was when the worker died: the one in work ended it. Undefined
   * when no worker died.
   */
  failed(error: ServerError, death?: 'in work' | 'waiting'): void;
  /** Asked before the request leaves for the worker. Without it the request is always wanted. */
  isWanted?(): boolean;
}

interface QueueItem {
  readonly request: QueuedRequest;
  readonly settlement: Settlement;
  readonly units: number;
  /** Its place in the queue: the lowest rank leaves first. */
  readonly rank: number;
}

/**
 * Ageing: rank = units of all requests so far + PATIENCE × its own units. So later requests of at
 * most 16 times its own units overtake a request. A book lets short texts pass and still leaves.
 */
const PATIENCE = 16;

/**
 * Requests at the worker at once: the one in work, and the next. What is still here can be dropped
 * when its callers leave.
 */
const REQUESTS_AT_WORKER_MAX = 2;

/**
 * Starts one worker and keeps it running.
 *
 * @param options.init what the worker loads; a compiled tokenizer is shared with it.
 * @param options.restartsMax how often in a row a worker that dies while starting is started again.
 */
export function createWorkerQueue(options: {
  name: string;
  workerUrl: URL;
  init: TokenizerInit;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): WorkerQueue {
  /** No `Map`: see `LinkedList`. */
  const atWorker: { readonly messageId: number; readonly item: QueueItem }[] = [];
  /** By descending rank, and of equal ones the oldest last: the next to leave is at the end. */
  const waiting: QueueItem[] = [];
  let load = 0;
  /** Units of all requests so far: the clock of the ranks. */
  let sentUnits = 0;
  let nextMessageId = 1;

  const host = createWorkerHost<TokenizerInit, TokenizerRequest, TokenizerResponse, TokenizerReady>(
    {
      ...options,
      url: options.workerUrl,
      init: options.init,
      onResponse,
      onDeath: (why) =>
        failAll(failure('The tokenizer died on these texts; it is being replaced.', why), true),
    },
  );

  function onResponse(response: TokenizerResponse): void {
    const at = atWorker.findIndex(({ messageId }) => messageId === response.messageId);
    invariant(at >= 0, 'a tokenizer worker answers requests it was given, once');
    const [{ item }] = atWorker.splice(at, 1);
    load -= item.units;
    pump();
    const { settlement } = item;
    if ('reason' in response) {
      settlement.failed(failure('The tokenizer failed on these texts.', response.reason));
    } else settlement.done(response);
  }

  function pump(): void {
    while (atWorker.length < REQUESTS_AT_WORKER_MAX) {
      const next = waiting.pop();
      if (next === undefined) return;
      if (next.settlement.isWanted?.() === false) {
        load -= next.units;
        continue;
      }
      atWorker.push({ messageId: nextMessageId, item: next });
      host.send({ ...next.request, messageId: nextMessageId++ });
    }
  }

  /** The index in `waiting` of a new item with this rank: before all that do not exceed it. */
  function indexOfRank(rank: number): number {
    let low = 0;
    let high = waiting.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (waiting[middle].rank > rank) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** A worker takes its requests one by one, so that the oldest that it has is the one in work. */
  function failAll(error: ServerError, isDeath: boolean): void {
    const items = [...atWorker.map(({ item }) => item), ...waiting];
    const inWork = atWorker.length > 0 ? items[0] : undefined;
    atWorker.length = 0;
    waiting.length = 0;
    load = 0;
    for (const item of items) {
      const death = item === inWork ? 'in work' : 'waiting';
      item.settlement.failed(error, isDeath ? death : undefined);
    }
  }

  return {
    get ready() {
      return host.ready;
    },
    get reason() {
      return host.reason;
    },
    started: host.started,
    get load() {
      return load;
    },
    send(request, settlement) {
      const units = unitsOf(request.texts);
      load += units;
      sentUnits += units;
      const rank = sentUnits + PATIENCE * units;
      waiting.splice(indexOfRank(rank), 0, { request, settlement, units, rank });
      pump();
    },
    close() {
      host.close();
      failAll(failure('The server is shutting down.', 'The pool was closed.'), false);
    },
  };
}

/** UTF-16 units of all texts. */
export function unitsOf(texts: readonly string[]): number {
  let units = 0;
  for (const text of texts) units += text.length;
  return units;
}

/** An EMB_TOKENIZER_FAILED with its cause. */
export function failure(message: string, why: string): ServerError {
  return new ServerError('EMB_TOKENIZER_FAILED', message, { cause: new Error(why) });
}
