import { APIEncoderError } from './api-encoder-error.ts';
import type { CallOptions } from './call-options.ts';
import { type CallScope, openCallScope } from './call-scope.ts';
import { checkTimeouts, type ResolvedOptions, type TimeoutOptions } from './client-options.ts';
import type { HttpRequest } from './http-try.ts';
import { send } from './transport.ts';

/** The calls that a client has open, and the requests that they are running. */
export class ClientCalls {
  readonly #options: ResolvedOptions;
  readonly #scopes = new Set<CallScope>();
  readonly #requests = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  /** Runs one call, from its start to its end. */
  async run<Result>(
    options: CallOptions,
    work: (scope: CallScope, resolved: ResolvedOptions) => Promise<Result>,
  ): Promise<Result> {
    const resolved = this.resolve(options);
    const scope = this.open(options.signal, resolved.totalTimeoutMs);
    try {
      return await work(scope, resolved);
    } finally {
      this.shut(scope);
    }
  }

  /** The client's options with the call's own. */
  resolve(options: TimeoutOptions): ResolvedOptions {
    return { ...this.#options, ...checkTimeouts(options, this.#options) };
  }

  /**
   * Whoever opens a scope shuts it.
   *
   * @throws APIEncoderError CLIENT_CLOSED, or the signal's reason.
   */
  open(signal: AbortSignal | undefined, totalTimeoutMs: number | undefined): CallScope {
    if (this.#isClosed) throw closedError();
    signal?.throwIfAborted();
    const { clock } = this.#options;
    const scope = openCallScope({ clock, totalTimeoutMs, parent: signal });
    this.#scopes.add(scope);
    return scope;
  }

  shut(scope: CallScope): void {
    scope.release();
    this.#scopes.delete(scope);
  }

  /** Sends a request of a call, with its tries. @returns the reply's body; owned by the caller. */
  async send(
    options: ResolvedOptions,
    request: HttpRequest,
    scope: CallScope,
  ): Promise<Uint8Array> {
    const reply = send(options, request, scope);
    this.#requests.add(reply);
    try {
      return await reply;
    } finally {
      this.#requests.delete(reply);
    }
  }

  get(path: string, scope: CallScope, options: ResolvedOptions): Promise<Uint8Array> {
    const headers = { ...options.headers, accept: 'application/json' };
    return this.send(options, { method: 'GET', url: options.baseUrl + path, headers }, scope);
  }

  /** Ends every call and refuses further ones. Resolves when no request is running any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const scope of this.#scopes) scope.end(closedError());
    await Promise.allSettled(this.#requests);
  }
}

function closedError(): APIEncoderError {
  return new APIEncoderError('CLIENT_CLOSED', 'This APIEncoder has been closed.');
}
