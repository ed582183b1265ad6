import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { invariant } from '../../base/invariant.ts';
import type { Log } from '../../base/log.ts';
import { createWorkerHost } from '../../base/worker-host.ts';
import type {
  TokenizerFacts,
  TokenizerGreeting,
  TokenizerJob,
  TokenizerReply,
} from './tokenizer-protocol.ts';

/** One tokenizer worker and the jobs it was given. */
export interface TokenizerDesk {
  /** Undefined while no worker runs. */
  readonly facts: TokenizerFacts | undefined;
  /** Why no worker runs; empty while one does. */
  readonly reason: string;
  readonly started: Promise<void>;
  /** UTF-16 units sent and not yet answered. */
  readonly load: number;
  /**
   * Sends a job, once the worker has nearly finished with those before it; short ones pass long ones
   * that wait. Exactly one of `done`
   * and `failed` is called, once; neither for a job that nobody wants any more by then.
   */
  send(job: Omit<TokenizerJob, 'jobId'>, settle: DeskSettlement): void;
  /** Ends the worker; its jobs fail. */
  close(): void;
}

/** What becomes of a job. */
export interface DeskSettlement {
  done(reply: TokenizerReply): void;
  /** @param isDeath whether the worker died with the job, for which it may not be to blame. */
  failed(error: ServerError, isDeath: boolean): void;
  /** Asked before the job leaves for the worker; always wanted unless told. */
  isWanted?(): boolean;
}

interface OpenJob {
  readonly job: Omit<TokenizerJob, 'jobId'>;
  readonly settle: DeskSettlement;
  readonly units: number;
  /** Its place among those that wait: the lowest goes first. */
  readonly rank: number;
}

/**
 * A job may be passed by later ones of this many times its own units, as a text waits in the queue
 * for a batch: a book lets short texts pass, and yet goes some day.
 */
const PATIENCE = 16;

/**
 * Messages at the worker at once: one that it works on and one that is there when it has finished.
 * What is still here can be dropped when its callers leave.
 */
const MESSAGES_MAX = 2;

/**
 * Starts one worker and keeps it running.
 *
 * @param options.greeting what the worker shall load; a compiled tokenizer is shared with it.
 * @param options.restartsMax how often in a row a worker that dies while starting is started again.
 */
export function createTokenizerDesk(options: {
  name: string;
  workerUrl: URL;
  greeting: TokenizerGreeting;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): TokenizerDesk {
  const jobs = new Map<number, OpenJob>();
  /** By descending rank, of equal ones the oldest last: the next to go is at the end. */
  const queued: OpenJob[] = [];
  let load = 0;
  /** Units of all jobs so far: the time by which ranks are told. */
  let sentUnits = 0;
  let nextJobId = 1;

  const host = createWorkerHost<TokenizerGreeting, TokenizerJob, TokenizerReply, TokenizerFacts>({
    ...options,
    url: options.workerUrl,
    onReply,
    onDeath: (why) =>
      failAll('The tokenizer died on these texts; it is being replaced.', { why, isDeath: true }),
  });

  function onReply(reply: TokenizerReply): void {
    const open = jobs.get(reply.jobId);
    invariant(open !== undefined, 'a tokenizer worker answers jobs it was given, once');
    jobs.delete(reply.jobId);
    load -= open.units;
    pump();
    if ('reason' in reply) {
      open.settle.failed(failure('The tokenizer failed on these texts.', reply.reason), false);
    } else open.settle.done(reply);
  }

  function pump(): void {
    while (jobs.size < MESSAGES_MAX) {
      const next = queued.pop();
      if (next === undefined) return;
      if (next.settle.isWanted?.() === false) {
        load -= next.units;
        continue;
      }
      jobs.set(nextJobId, next);
      host.send({ ...next.job, jobId: nextJobId++ });
    }
  }

  /** Where a rank goes among those that wait: before all that are not above it. */
  function placeOf(rank: number): number {
    let low = 0;
    let high = queued.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (queued[middle].rank > rank) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function failAll(message: string, { why, isDeath }: { why: string; isDeath: boolean }): void {
    const open = [...jobs.values(), ...queued];
    jobs.clear();
    queued.length = 0;
    load = 0;
    for (const { settle } of open) settle.failed(failure(message, why), isDeath);
  }

  return {
    get facts() {
      return host.facts;
    },
    get reason() {
      return host.reason;
    },
    started: host.started,
    get load() {
      return load;
    },
    send(job, settle) {
      const units = unitsOf(job.texts);
      load += units;
      sentUnits += units;
      const rank = sentUnits + PATIENCE * units;
      queued.splice(placeOf(rank), 0, { job, settle, units, rank });
      pump();
    },
    close() {
      host.close();
      failAll('The server is shutting down.', { why: 'The pool was closed.', isDeath: false });
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
