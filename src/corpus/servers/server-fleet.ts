import { APIEncoderError } from '../../client/api-encoder-error.ts';
import { type Cancellation, createCancellation, onAbort } from '../../client/cancellation.ts';
import type { Fetch } from '../../client/transport.ts';
import { CorpusError } from '../corpus-error.ts';
import { type EncodedTexts, EncodeRequests, type RequestOptions } from './encode-request.ts';

/** How the texts of a job are sent. */
export interface FleetOptions extends RequestOptions {
  readonly servers: readonly ServerAddress[];
  /** Requests at the same time to each server. */
  readonly concurrency: number;
  /** How long no server may answer before the job ends, in ms. */
  readonly patienceMs: number;
  readonly signal: AbortSignal;
  /** Told of waits, so that a stalled job is no riddle. */
  readonly onWait?: (wait: { server: string; reason: string; delayMs: number }) => void;
}

/** Where a server is. */
export interface ServerAddress {
  readonly url: string;
  readonly fetch?: Fetch;
  /** Brings it back, or waits until it is; called when a connection failed. */
  readonly revive?: () => Promise<void>;
}

/** These texts were refused for what they are; no other server or time would change it. */
export class TextsRefused extends Error {
  override readonly name = 'TextsRefused';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** The request took longer than its server lets it; a smaller one may not. */
export class RequestTooSlow extends Error {
  override readonly name = 'RequestTooSlow';
}

/** Failures that say so: the server's deadline, and ours. */
const TOO_SLOW: ReadonlySet<string> = new Set(['EMB_DEADLINE_EXCEEDED', 'CLIENT_TIMEOUT']);

/** A server that was killed breaks connections, and leaves a socket at which nobody answers. */
const NO_CONNECTION: ReadonlySet<string> = new Set([
  'CLIENT_CONNECTION_FAILED',
  'CLIENT_CONNECTION_REFUSED',
]);

/** First wait after a failure that named none, in ms; it doubles up to the longest. */
const DELAY_MS = 250;
const DELAY_MS_MAX = 10_000;

/**
 * Refusals that are about the texts of a request and not about the server or its load. Whether they
 * come does not depend on the moment.
 */
const ABOUT_TEXTS: ReadonlySet<string> = new Set([
  'EMB_TEXT_EMPTY',
  'EMB_TEXT_TOO_LONG',
  'EMB_TEXT_NOT_UNICODE',
  'EMB_TEXT_REFUSED',
  'EMB_BODY_TOO_LARGE',
  'EMB_REPLY_TOO_LARGE',
  'EMB_OUTPUT_INVALID',
]);

/** The same failure so often in a row is about the texts after all. */
const OUTPUT_TRIES = 3;

/** One server, and what we know of it. */
interface Server {
  readonly address: ServerAddress;
  inFlight: number;
  failedCount: number;
  /** Not to be asked before. */
  pausedUntilMs: number;
}

/**
 * The servers of a job. A request goes to the one with the fewest under way; what may pass is tried
 * again, there or elsewhere, and a server that says when to come back is obeyed.
 */
export class ServerFleet {
  readonly #options: FleetOptions;
  readonly #servers: readonly Server[];
  readonly #requests: EncodeRequests;
  readonly #cancellation: Cancellation;
  readonly #running = new Set<Promise<unknown>>();
  /** Requests that have no server yet. */
  readonly #waiting = new Set<() => void>();
  #answeredMs: number;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#requests = new EncodeRequests(options);
    this.#cancellation = createCancellation({ clock: options.clock, parent: options.signal });
    this.#answeredMs = options.clock.now();
    this.#servers = options.servers.map((address) => ({
      address,
      inFlight: 0,
      failedCount: 0,
      pausedUntilMs: 0,
    }));
  }

  /** Requests that all servers take together. */
  get concurrency(): number {
    return this.#servers.length * this.#options.concurrency;
  }

  /**
   * Encodes the texts of one request.
   *
   * @throws TextsRefused when they are what is wrong, one of them at least; RequestTooSlow when
   *   fewer at a time may go through; CorpusError
   *   CORPUS_SERVER_FAILED, CORPUS_MODEL_DIFFERS; the signal's reason.
   */
  async encode(texts: readonly string[]): Promise<EncodedTexts> {
    const { clock } = this.#options;
    const { signal } = this.#cancellation;
    for (let badOutputCount = 0; ; ) {
      signal.throwIfAborted();
      const server = await this.#next();
      try {
        const encoded = await this.#send(server, texts);
        server.failedCount = 0;
        this.#answeredMs = clock.now();
        return encoded;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof APIEncoderError)) throw error;
        if (error.code === 'EMB_OUTPUT_INVALID') badOutputCount++;
        const isFinal = error.code !== 'EMB_OUTPUT_INVALID' || badOutputCount >= OUTPUT_TRIES;
        if (ABOUT_TEXTS.has(error.code) && isFinal)
          throw new TextsRefused(error.code, error.message);
        if (TOO_SLOW.has(error.code) && texts.length > 1) throw new RequestTooSlow(error.message);
        if (!error.retryable) throw serverFailed(server.address.url, error);
        await this.#pause(server, error);
      } finally {
        server.inFlight--;
        for (const wake of [...this.#waiting]) wake();
      }
    }
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    this.#cancellation.cancel(new Error('The fleet has been closed.'));
    await Promise.allSettled(this.#running);
    this.#cancellation.release();
  }

  async #send({ address }: Server, texts: readonly string[]): Promise<EncodedTexts> {
    const { signal } = this.#cancellation;
    const { url, fetch: own } = address;
    const sent = this.#requests.send({ url, fetch: own ?? fetch, signal }, texts);
    this.#running.add(sent);
    try {
      return await sent;
    } finally {
      this.#running.delete(sent);
    }
  }

  /** A place at the server that has the least to do; waits where all are paused or have enough. */
  async #next(): Promise<Server> {
    const { clock, concurrency } = this.#options;
    for (;;) {
      this.#cancellation.signal.throwIfAborted();
      const nowMs = clock.now();
      const awake = this.#servers.filter(({ pausedUntilMs }) => pausedUntilMs <= nowMs);
      const [least] = awake.toSorted((left, right) => left.inFlight - right.inFlight);
      if (least !== undefined && least.inFlight < concurrency) {
        least.inFlight++;
        return least;
      }
      const paused = this.#servers.filter((server) => !awake.includes(server));
      const untilMs = Math.min(...paused.map(({ pausedUntilMs }) => pausedUntilMs));
      await this.#change(Math.min(DELAY_MS_MAX, Math.max(1, untilMs - nowMs)));
    }
  }

  /** Resolves when a request has ended, the job has, or at the latest after so long. */
  #change(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        stopListening();
        this.#waiting.delete(wake);
        resolve();
      };
      const cancel = this.#options.clock.schedule(delayMs, wake);
      const stopListening = onAbort(this.#cancellation.signal, wake);
      this.#waiting.add(wake);
    });
  }

  async #pause(server: Server, error: APIEncoderError): Promise<void> {
    const { clock, patienceMs, onWait } = this.#options;
    const nowMs = clock.now();
    const { url } = server.address;
    if (nowMs - this.#answeredMs > patienceMs) throw serverFailed(url, error);
    if (NO_CONNECTION.has(error.code)) await server.address.revive?.();
    // Of requests that failed together one counts.
    if (server.pausedUntilMs > nowMs) return;
    server.failedCount++;
    const doubled = Math.min(DELAY_MS_MAX, DELAY_MS * 2 ** (server.failedCount - 1));
    const delayMs = error.retryAfterMs ?? doubled;
    server.pausedUntilMs = nowMs + delayMs;
    onWait?.({ server: url, reason: `${error.code}: ${error.message}`, delayMs });
  }
}

function serverFailed(url: string, error: APIEncoderError): CorpusError {
  const message = `${url} failed: ${error.message} (${error.code}). What is committed stays; run it again.`;
  return new CorpusError('CORPUS_SERVER_FAILED', message, error);
}
