import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Log } from '../base/log.ts';
import { createWorkerHost } from '../base/worker-host.ts';
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
  /** Sends a job; exactly one of the two is called, once. */
  send(job: Omit<TokenizerJob, 'jobId'>, settle: DeskSettlement): void;
  /** Ends the worker; its jobs fail. */
  close(): void;
}

/** What becomes of a job. */
export interface DeskSettlement {
  done(reply: TokenizerReply): void;
  failed(error: ServerError): void;
}

interface OpenJob extends DeskSettlement {
  readonly units: number;
}

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
  let load = 0;
  let nextJobId = 1;

  const host = createWorkerHost<TokenizerGreeting, TokenizerJob, TokenizerReply, TokenizerFacts>({
    ...options,
    url: options.workerUrl,
    onReply,
    onDeath: (why) => failAll('The tokenizer died on these texts; it is being replaced.', why),
  });

  function onReply(reply: TokenizerReply): void {
    const job = jobs.get(reply.jobId);
    invariant(job !== undefined, 'a tokenizer worker answers jobs it was given, once');
    jobs.delete(reply.jobId);
    load -= job.units;
    if ('reason' in reply)
      job.failed(failure('The tokenizer failed on these texts.', reply.reason));
    else job.done(reply);
  }

  function failAll(message: string, why: string): void {
    const open = [...jobs.values()];
    jobs.clear();
    load = 0;
    for (const job of open) job.failed(failure(message, why));
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
      jobs.set(nextJobId, { ...settle, units });
      host.send({ ...job, jobId: nextJobId++ });
    },
    close() {
      host.close();
      failAll('The server is shutting down.', 'The pool was closed.');
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
