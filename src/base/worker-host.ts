import type { Clock } from './clock.ts';
import { describeError, type Log } from './log.ts';
import { restartDelayMs } from './restart-delay.ts';

/**
 * What every worker of ours says first: that it is up, with facts about what it loaded, or why it
 * is not.
 */
export type WorkerGreeting<Facts> =
  | { readonly kind: 'ready'; readonly facts: Facts }
  | { readonly kind: 'failed'; readonly reason: string };

/** One worker thread that is replaced when it dies. */
export interface WorkerHost<Job, Facts> {
  /**
   * Facts of the running worker; undefined while it starts, after it has failed for good, and once
   * closed.
   */
  readonly facts: Facts | undefined;
  /** Why there is no running worker; empty while there is one. */
  readonly reason: string;
  /** Settles when the first start has succeeded, or has failed for good. */
  readonly started: Promise<void>;
  /**
   * Sends a job to the running worker. `transfer` moves the buffers: the caller no longer owns
   * them.
   */
  send(job: Job, transfer?: ArrayBuffer[]): void;
  close(): void;
}

/**
 * Starts a worker and keeps it running.
 *
 * A worker that dies while it works is replaced at once, and `onDeath` fails its jobs. One that
 * dies while it starts is tried again `restartsMax` times in a row and then left dead, since a
 * missing file does not heal by itself.
 *
 * @param options.greeting the first message to the worker: what it shall load.
 * @param options.onReply called with each message after the worker's own greeting.
 * @param options.onDeath called each time a worker that was ready has died.
 */
export function createWorkerHost<Greeting, Job, Reply, Facts>(options: {
  name: string;
  url: URL;
  greeting: Greeting;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
  /**
   * Asks the worker to end by itself, after what it does now. Without it a worker is terminated on
   * the spot, which a native addon that is computing does not survive: it takes the process along.
   */
  farewell?: Job;
  onReply: (reply: Reply) => void;
  onDeath: (reason: string) => void;
}): WorkerHost<Job, Facts> {
  const { name, url, greeting, clock, log } = options;
  let worker: Worker | undefined;
  let facts: Facts | undefined;
  let reason = `${name} is starting.`;
  let deathsInARow = 0;
  let isClosed = false;
  let settleStart: () => void = () => undefined;
  const started = new Promise<void>((resolve) => {
    settleStart = resolve;
  });

  function start(): void {
    const current = new Worker(url, { name });
    worker = current;
    let isOver = false;
    const cancelDeadline = clock.schedule(options.startMsMax, () =>
      die(`${name} did not start within ${options.startMsMax} ms.`),
    );
    const die = (why: string): void => {
      if (isOver || isClosed) return;
      isOver = true;
      cancelDeadline();
      dismiss(current);
      onEnd(why);
    };
    current.onmessage = (event: MessageEvent) => {
      if (isOver || isClosed) return;
      if (facts !== undefined) options.onReply(event.data as Reply);
      else greeted(event.data as WorkerGreeting<Facts>);
    };
    const greeted = (first: WorkerGreeting<Facts>): void => {
      if (first.kind === 'failed') {
        die(first.reason);
        return;
      }
      cancelDeadline();
      facts = first.facts;
      reason = '';
      deathsInARow = 0;
      settleStart();
    };
    current.onerror = (event: ErrorEvent) => die(`${name} died: ${event.message}`);
    current.addEventListener('close', () => die(`${name} ended by itself.`));
    current.postMessage(greeting);
  }

  function dismiss(leaving: Worker): void {
    if (options.farewell === undefined) leaving.terminate();
    else leaving.postMessage(options.farewell);
  }

  function onEnd(why: string): void {
    const wasReady = facts !== undefined;
    facts = undefined;
    reason = why;
    worker = undefined;
    deathsInARow = wasReady ? 1 : deathsInARow + 1;
    log.error('worker-died', { worker: name, reason: why, deathsInARow });
    if (wasReady) options.onDeath(why);
    if (deathsInARow > options.restartsMax) {
      reason = `${why} It was started ${deathsInARow} times.`;
      settleStart();
      return;
    }
    clock.schedule(restartDelayMs(deathsInARow), () => {
      if (!isClosed) start();
    });
  }

  try {
    start();
  } catch (error) {
    onEnd(`${name} could not be created: ${describeError(error)}`);
  }
  return {
    get facts() {
      return facts;
    },
    get reason() {
      return reason;
    },
    started,
    send(job, transfer = []) {
      worker?.postMessage(job, transfer);
    },
    close() {
      isClosed = true;
      if (worker !== undefined) dismiss(worker);
      worker = undefined;
      facts = undefined;
      reason = `${name} was closed.`;
      settleStart();
    },
  };
}
