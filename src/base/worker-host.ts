import type { Clock } from './clock.ts';
import { describeError, type Log } from './log.ts';
import { restartDelayMs } from './restart-delay.ts';

/**
 * The first message of every worker: that it is ready and what it has loaded, or why it failed.
 */
export type WorkerStart<Ready> =
  | { readonly kind: 'ready'; readonly ready: Ready }
  | { readonly kind: 'failed'; readonly reason: string };

/** One worker thread that is replaced when it dies. */
export interface WorkerHost<Request, Ready> {
  /**
   * What the running worker said of itself; undefined while it starts, after it has failed for
   * good, and once closed.
   */
  readonly ready: Ready | undefined;
  /** Why there is no running worker; empty while there is one. */
  readonly reason: string;
  /** Settles when the first start has succeeded, or has failed for good. */
  readonly started: Promise<void>;
  /**
   * Sends a request to the running worker. `transfer` moves the buffers: the caller no longer owns
   * them.
   */
  send(request: Request, transfer?: ArrayBuffer[]): void;
  close(): void;
}

/**
 * Starts a worker and keeps it running.
 *
 * A worker that dies while it works is replaced at once, and `onDeath` fails its requests. One that
 * dies while it starts is tried again `restartsMax` times in a row and then left dead, since a
 * missing file does not heal by itself.
 *
 * @param options.init the first message to the worker: what it shall load.
 * @param options.onResponse called with each message after the worker's own init.
 * @param options.onDeath called each time a worker that was ready has died.
 */
export function createWorkerHost<Init, Request, Response, Ready>(options: {
  name: string;
  url: URL;
  init: Init;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
  /**
   * Asks the worker to end by itself, after what it does now. Without it a worker is terminated on
   * the spot, which a native addon that is computing does not survive: it takes the process along.
   */
  shutdown?: Request;
  onResponse: (response: Response) => void;
  onDeath: (reason: string) => void;
}): WorkerHost<Request, Ready> {
  const { name, url, init, clock, log } = options;
  let worker: Worker | undefined;
  let ready: Ready | undefined;
  let reason = `${name} is starting.`;
  let deathsInARow = 0;
  let isClosed = false;
  let settleStart: () => void = () => undefined;
  const started = new Promise<void>((resolve) => {
    settleStart = resolve;
  });

  function start(): void {
    try {
      watch(new Worker(url, { name }));
    } catch (error) {
      onEnd(`${name} could not be created: ${describeError(error)}`);
    }
  }

  function watch(current: Worker): void {
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
      if (ready !== undefined) options.onResponse(event.data as Response);
      else greeted(event.data as WorkerStart<Ready>);
    };
    const greeted = (first: WorkerStart<Ready>): void => {
      if (first.kind === 'failed') {
        die(first.reason);
        return;
      }
      cancelDeadline();
      ready = first.ready;
      reason = '';
      deathsInARow = 0;
      settleStart();
    };
    current.onerror = (event: ErrorEvent) => die(`${name} died: ${event.message}`);
    current.addEventListener('close', () => die(`${name} ended by itself.`));
    current.postMessage(init);
  }

  function dismiss(leaving: Worker): void {
    if (options.shutdown === undefined) leaving.terminate();
    else leaving.postMessage(options.shutdown);
  }

  function onEnd(why: string): void {
    const wasReady = ready !== undefined;
    ready = undefined;
    reason = why;
    worker = undefined;
    // What died at work has started well: starts alone are counted.
    deathsInARow = wasReady ? 0 : deathsInARow + 1;
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

  start();
  return {
    get ready() {
      return ready;
    },
    get reason() {
      return reason;
    },
    started,
    send(request, transfer = []) {
      worker?.postMessage(request, transfer);
    },
    close() {
      isClosed = true;
      if (worker !== undefined) dismiss(worker);
      worker = undefined;
      ready = undefined;
      reason = `${name} was closed.`;
      settleStart();
    },
  };
}
