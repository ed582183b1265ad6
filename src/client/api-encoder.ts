import { APIEncoderError } from './api-encoder-error.ts';
import {
  type CallOptions,
  type EncodeHeadsOptions,
  type EncodeOptions,
  headsOf,
  listOf,
  sourceOf,
  type TextSource,
} from './call-options.ts';
import { type CallScope, openCallScope } from './call-scope.ts';
import {
  type APIEncoderOptions,
  checkTimeouts,
  type ResolvedOptions,
  resolveOptions,
  type TimeoutOptions,
} from './client-options.ts';
import { type EncodeCall, encodeArray, encodeRows, encodeStream } from './encode-call.ts';
import { type EncodedText, textsOfReply } from './encoded-texts.ts';
import { fieldOfJson } from './field-of-json.ts';
import type { HttpRequest } from './http-try.ts';
import type { Head } from './read-encode-reply.ts';
import { send } from './transport.ts';

export type { APIEncoderErrorCode, ClientErrorCode } from './api-encoder-error.ts';
export type {
  CallOptions,
  EncodeHeadsOptions,
  EncodeOptions,
  TextSource,
} from './call-options.ts';
export type { ClientClock } from './client-clock.ts';
export type { APIEncoderOptions, TextOptions, TimeoutOptions } from './client-options.ts';
export type { EncodeProgress } from './encode-call.ts';
export type { EncodedText } from './encoded-texts.ts';
export type { Fetch } from './http-try.ts';
export type { Head, MultiVector, SparseRow } from './read-encode-reply.ts';
// The class of what is thrown belongs to the published file: callers ask `instanceof` of it.
export { APIEncoderError };

const DENSE: readonly Head[] = ['dense'];

/**
 * A client of the embedding server. It needs `fetch` and nothing else, so it runs in Node 20, Bun,
 * browsers and workers.
 *
 * Every method rejects with `APIEncoderError`, or with the reason of the signal that ended it.
 * Failures that may pass are tried again, as the server asks. Everything that a method returns
 * belongs to the caller.
 */
export class APIEncoder {
  readonly #options: ResolvedOptions;
  readonly #scopes = new Set<CallScope>();
  readonly #requests = new Set<Promise<unknown>>();
  #isClosed = false;

  /** @throws APIEncoderError CLIENT_ARGUMENT_INVALID that names the option. Nothing is sent yet. */
  constructor(baseUrl = 'http://localhost:8080', options: APIEncoderOptions = {}) {
    this.#options = resolveOptions(baseUrl, options);
  }

  /** Whether the server's process lives. One try: the question is about now. */
  health(options: CallOptions = {}): Promise<{ readonly status: string }> {
    return this.#call(options, async (scope, resolved) => {
      const once = { ...resolved, retriesMax: 0 };
      const body = await this.#get('/health', scope, once);
      return { status: fieldOfJson(body, 'status', 'string') };
    });
  }

  /** The length of a dense row. */
  getVectorDim(options: CallOptions = {}): Promise<number> {
    return this.#call(options, async (scope, resolved) => {
      const body = await this.#get('/get_vector_dim', scope, resolved);
      return fieldOfJson(body, 'vector_dim', 'number');
    });
  }

  /** The name that the replaced client had for `getVectorDim`. */
  get_vector_dim(options: CallOptions = {}): Promise<number> {
    return this.getVectorDim(options);
  }

  /** Encodes one text to its dense row, `[dimension]` float32. */
  encode(text: string, options?: EncodeOptions): Promise<Float32Array>;
  /**
   * Encodes any number of texts, in as many requests as it takes, to dense rows in the same order.
   * The rows are views of one matrix, `[textCount, dimension]` float32: `rows[0].buffer`. An empty
   * array is answered with one, and nothing is sent.
   */
  encode(texts: readonly string[], options?: EncodeOptions): Promise<Float32Array[]>;
  encode(
    texts: string | readonly string[],
    options: EncodeOptions = {},
  ): Promise<Float32Array | Float32Array[]> {
    return this.#call(options, async (scope, resolved) => {
      const isSingle = typeof texts === 'string';
      const list = listOf(texts);
      const call = this.#encodeCall(scope, resolved, { ...options, heads: DENSE, isSingle });
      const rows = await encodeRows(call, list);
      return isSingle ? rows[0] : rows;
    });
  }

  /** Encodes one text with several heads at once, and tells its tokens and whether it was cut. */
  encodeHeads(text: string, options?: EncodeHeadsOptions): Promise<EncodedText>;
  /** Encodes any number of texts with several heads at once; one element a text, in order. */
  encodeHeads(texts: readonly string[], options?: EncodeHeadsOptions): Promise<EncodedText[]>;
  encodeHeads(
    texts: string | readonly string[],
    options: EncodeHeadsOptions = {},
  ): Promise<EncodedText | EncodedText[]> {
    return this.#call(options, async (scope, resolved) => {
      const isSingle = typeof texts === 'string';
      const list = listOf(texts);
      const heads = headsOf(options.outputs);
      const call = this.#encodeCall(scope, resolved, { ...options, heads, isSingle });
      const encoded: EncodedText[] = new Array(list.length);
      await encodeArray(call, list, (start, reply) => {
        for (const [index, text] of textsOfReply(reply).entries()) encoded[start + index] = text;
      });
      return isSingle ? encoded[0] : encoded;
    });
  }

  /**
   * Encodes a corpus that does not fit in memory: texts in, dense rows out, in order. It reads
   * ahead only as far as its requests go, so memory stays flat however slow the consumer is.
   * Leaving the loop early ends what still runs.
   */
  encodeStream(
    texts: TextSource,
    options: EncodeOptions = {},
  ): AsyncGenerator<Float32Array, void, undefined> {
    return this.#stream(sourceOf(texts), { ...options, outputs: DENSE }, ({ dense }) => {
      // A reply without the rows that were asked for has been refused when it was read.
      return dense as Float32Array;
    });
  }

  /** The same with several heads, and with the tokens of each text and whether it was cut. */
  encodeHeadsStream(
    texts: TextSource,
    options: EncodeHeadsOptions = {},
  ): AsyncGenerator<EncodedText, void, undefined> {
    return this.#stream(sourceOf(texts), options, (text) => text);
  }

  /**
   * Ends every call with CLIENT_CLOSED and refuses further ones. Resolves when no request is
   * running any more.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const scope of this.#scopes) scope.end(closedError());
    await Promise.allSettled(this.#requests);
  }

  async *#stream<Item>(
    source: TextSource,
    options: EncodeHeadsOptions,
    itemOf: (text: EncodedText) => Item,
  ): AsyncGenerator<Item, void, undefined> {
    const resolved = this.#resolve(options);
    const scope = this.#open(options.signal, undefined);
    try {
      const heads = headsOf(options.outputs);
      const call = this.#encodeCall(scope, resolved, { ...options, heads, isSingle: false });
      for await (const reply of encodeStream(call, source)) {
        for (const text of textsOfReply(reply)) {
          yield itemOf(text);
          scope.signal.throwIfAborted();
        }
      }
    } finally {
      this.#shut(scope);
    }
  }

  async #call<Result>(
    options: CallOptions,
    work: (scope: CallScope, resolved: ResolvedOptions) => Promise<Result>,
  ): Promise<Result> {
    const resolved = this.#resolve(options);
    const scope = this.#open(options.signal, resolved.totalTimeoutMs);
    try {
      return await work(scope, resolved);
    } finally {
      this.#shut(scope);
    }
  }

  #resolve(options: TimeoutOptions): ResolvedOptions {
    return { ...this.#options, ...checkTimeouts(options, this.#options) };
  }

  #open(signal: AbortSignal | undefined, totalTimeoutMs: number | undefined): CallScope {
    if (this.#isClosed) throw closedError();
    signal?.throwIfAborted();
    const { clock } = this.#options;
    const scope = openCallScope({ clock, totalTimeoutMs, parent: signal });
    this.#scopes.add(scope);
    return scope;
  }

  #shut(scope: CallScope): void {
    scope.release();
    this.#scopes.delete(scope);
  }

  #encodeCall(
    scope: CallScope,
    options: ResolvedOptions,
    given: EncodeOptions & { heads: readonly Head[]; isSingle: boolean },
  ): EncodeCall {
    const { heads, isSingle, onProgress } = given;
    const { truncate, inputType, batchSize } = options.texts;
    const texts = {
      truncate: given.truncate ?? truncate,
      inputType: given.inputType ?? inputType,
      batchSize: given.batchSize ?? batchSize,
    };
    const sendOne: EncodeCall['send'] = (request, at) => this.#send(options, request, at);
    return { options, texts, heads, isSingle, onProgress, scope, send: sendOne };
  }

  async #send(options: ResolvedOptions, request: HttpRequest, scope: CallScope) {
    const reply = send(options, request, scope);
    this.#requests.add(reply);
    try {
      return await reply;
    } finally {
      this.#requests.delete(reply);
    }
  }

  #get(path: string, scope: CallScope, options: ResolvedOptions): Promise<Uint8Array> {
    const headers = { ...options.headers, accept: 'application/json' };
    const url = options.baseUrl + path;
    return this.#send(options, { method: 'GET', url, headers }, scope);
  }
}

function closedError(): APIEncoderError {
  return new APIEncoderError('CLIENT_CLOSED', 'This APIEncoder has been closed.');
}
