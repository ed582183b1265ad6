import { APIEncoderError } from './api-encoder-error.ts';
import { type Cancellation, createCancellation } from './cancellation.ts';
import {
  type CallOptions,
  checkTimeouts,
  type EncodeHeadsOptions,
  type ResolvedOptions,
  refuseUnknownOptions,
  type TimeoutOptions,
} from './client-options.ts';
import type { ScoreOptions, TokenizeOptions } from './json-calls.ts';
import { type HttpRequest, send } from './transport.ts';

/** What calls take, all of them together, by name. */
const CALL_OPTIONS = {
  ...{ truncate: true, inputType: true, batchSize: true, priority: true },
  ...{ timeoutMs: true, totalTimeoutMs: true, signal: true, onProgress: true },
  ...{ outputs: true, weights: true, addSpecialTokens: true },
} satisfies Record<keyof (EncodeHeadsOptions & ScoreOptions & TokenizeOptions), true>;

/** The calls that a client has open, and the requests that they are running. */
export class ClientCalls {
  readonly #options: ResolvedOptions;
  readonly #cancellations = new Set<Cancellation>();
  readonly #requests = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  /** Runs one call, from its start to its end. */
  async run<Result>(
    options: CallOptions,
    work: (cancellation: Cancellation, resolved: ResolvedOptions) => Promise<Result>,
  ): Promise<Result> {
    const resolved = this.resolve(options);
    const cancellation = this.open(options.signal, resolved.totalTimeoutMs);
    try {
      return await work(cancellation, resolved);
    } finally {
      this.shut(cancellation);
    }
  }

  /** The client's options with the call's own. */
  resolve(options: TimeoutOptions): ResolvedOptions {
    refuseUnknownOptions(options, CALL_OPTIONS, 'call');
    return { ...this.#options, ...checkTimeouts(options, this.#options) };
  }

  /**
   * Registers a call. Whoever opens one shuts it.
   *
   * @throws APIEncoderError CLIENT_CLOSED, or the signal's reason.
   */
  open(signal: AbortSignal | undefined, totalTimeoutMs: number | undefined): Cancellation {
    if (this.#isClosed) throw closedError();
    signal?.throwIfAborted();
    const { clock } = this.#options;
    const cancellation = createCancellation({ clock, totalTimeoutMs, parent: signal });
    this.#cancellations.add(cancellation);
    return cancellation;
  }

  shut(cancellation: Cancellation): void {
    cancellation.release();
    this.#cancellations.delete(cancellation);
  }

  /** Sends a request of a call, with its tries. @returns the reply's body; owned by the caller. */
  async send(
    options: ResolvedOptions,
    request: HttpRequest,
    cancellation: Cancellation,
  ): Promise<Uint8Array> {
    const reply = send(options, request, cancellation);
    this.#requests.add(reply);
    try {
      return await reply;
    } finally {
      this.#requests.delete(reply);
    }
  }

  get(path: string, cancellation: Cancellation, options: ResolvedOptions): Promise<Uint8Array> {
    const headers = { ...options.headers, accept: 'application/json' };
    return this.send(options, { method: 'GET', path, headers }, cancellation);
  }

  /** Ends every call and refuses further ones. Resolves when no request is running any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const cancellation of this.#cancellations) cancellation.cancel(closedError());
    await Promise.allSettled(this.#requests);
  }
}

function closedError(): APIEncoderError {
  return new APIEncoderError('CLIENT_CLOSED', 'This APIEncoder has been closed.');
}
