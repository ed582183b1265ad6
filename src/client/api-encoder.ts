import { APIEncoderError } from './api-encoder-error.ts';
import { type Cancellation, runWithin } from './cancellation.ts';
import { ClientCalls } from './client-calls.ts';
import {
  type APIEncoderOptions,
  type CallOptions,
  checkQuantized,
  type EncodeHeadsOptions,
  type EncodeOptions,
  headsOf,
  listOf,
  type ResolvedOptions,
  resolveOptions,
  someOf,
  sourceOf,
  type TextSource,
} from './client-options.ts';
import { type EncodeCall, encodeArray, encodeMatrix, encodeStream } from './encode-call.ts';
import {
  fieldOfJson,
  joinScores,
  readModelHeads,
  readScores,
  readTokens,
  type ScoreOptions,
  sendTexts,
  type TextScores,
  type TextToken,
  type TokenizeOptions,
} from './json-calls.ts';
import {
  type EncodedText,
  type Head,
  type QuantizedRow,
  type QuantizedType,
  textsOfReply,
} from './read-encode-reply.ts';
import { checkText } from './split-texts.ts';

export type { APIEncoderErrorCode, ClientErrorCode } from './api-encoder-error.ts';
export type { ClientClock } from './cancellation.ts';
export type {
  APIEncoderOptions,
  CallOptions,
  EncodeHeadsOptions,
  EncodeOptions,
  EncodeProgress,
  TextOptions,
  TextSource,
  TimeoutOptions,
} from './client-options.ts';
export type { ScoreOptions, TextScores, TextToken, TokenizeOptions } from './json-calls.ts';
export type {
  EncodedText,
  Head,
  MultiVector,
  QuantizedRow,
  QuantizedType,
  SparseRow,
} from './read-encode-reply.ts';
export type { Fetch } from './transport.ts';
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
  readonly #calls: ClientCalls;
  /** Asked for by the first call that names no heads. */
  #modelHeads: readonly Head[] | undefined;

  /**
   * @param baseUrl the server's address, or those of several servers of one model. Each request then
   * goes to the one with the least work outstanding; one that refuses or is gone is left alone for a
   * while; one that serves another model gets nothing.
   * @throws APIEncoderError CLIENT_ARGUMENT_INVALID that names the option. Nothing is sent yet.
   */
  constructor(
    baseUrl: string | readonly string[] = 'http://localhost:8080',
    options: APIEncoderOptions = {},
  ) {
    this.#calls = new ClientCalls(resolveOptions(baseUrl, options));
  }

  /** Whether the server's process lives. One try: the question is about now. */
  health(options: CallOptions = {}): Promise<{ readonly status: string }> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      const once = { ...resolved, retriesMax: 0 };
      const body = await this.#calls.get('/health', cancellation, once);
      return { status: fieldOfJson(body, 'status', 'string') };
    });
  }

  /** The length of a dense row. */
  getVectorDim(options: CallOptions = {}): Promise<number> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      const body = await this.#calls.get('/get_vector_dim', cancellation, resolved);
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
    return this.#calls.run(options, async (cancellation, resolved) => {
      const isSingle = typeof texts === 'string';
      const list = listOf(texts);
      const call = this.#encodeCall(cancellation, resolved, { ...options, heads: DENSE, isSingle });
      const rows = (await encodeMatrix(call, list)).rows();
      return isSingle ? rows[0] : rows;
    });
  }

  /**
   * Encodes one text to a dense row in fewer bytes: whole numbers (`int8`, `uint8`), or a bit a
   * dimension (`binary`, `ubinary`).
   */
  encodeQuantized<Type extends QuantizedType>(
    text: string,
    type: Type,
    options?: EncodeOptions,
  ): Promise<QuantizedRow<Type>>;
  /** Encodes any number of texts to such rows, in order; they are views of one matrix. */
  encodeQuantized<Type extends QuantizedType>(
    texts: readonly string[],
    type: Type,
    options?: EncodeOptions,
  ): Promise<QuantizedRow<Type>[]>;
  encodeQuantized<Type extends QuantizedType>(
    texts: string | readonly string[],
    type: Type,
    options: EncodeOptions = {},
  ): Promise<QuantizedRow<Type> | QuantizedRow<Type>[]> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      const isSingle = typeof texts === 'string';
      const list = listOf(texts);
      const given = { ...options, heads: DENSE, isSingle };
      const call = this.#encodeCall(cancellation, resolved, given);
      const matrix = await encodeMatrix({ ...call, quantized: checkQuantized(type) }, list);
      const rows = matrix.quantizedRows(type);
      return isSingle ? rows[0] : rows;
    });
  }

  /**
   * Encodes one text with several heads at once, and tells its tokens and whether it was cut. Which
   * heads the model has is asked of the server once.
   */
  encodeHeads(text: string, options?: EncodeHeadsOptions): Promise<EncodedText>;
  /** Encodes any number of texts with several heads at once; one element a text, in order. */
  encodeHeads(texts: readonly string[], options?: EncodeHeadsOptions): Promise<EncodedText[]>;
  encodeHeads(
    texts: string | readonly string[],
    options: EncodeHeadsOptions = {},
  ): Promise<EncodedText | EncodedText[]> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      const isSingle = typeof texts === 'string';
      const list = listOf(texts);
      if (list.length === 0) return [];
      const heads = await this.#headsOf(options, cancellation, resolved);
      const call = this.#encodeCall(cancellation, resolved, { ...options, heads, isSingle });
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
   * Scores texts against a query by each head, and by their weighted mean, in as many requests as
   * it takes. At least one text.
   */
  score(query: string, texts: readonly string[], options: ScoreOptions = {}): Promise<TextScores> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      checkText(query, 'query');
      const { outputs, weights, truncate = resolved.texts.truncate } = options;
      if (outputs !== undefined) headsOf(outputs);
      const call = {
        ...{ path: '/score', field: 'texts', isSingle: false, read: readScores, cancellation },
        options: resolved,
        limits: resolved.multiVectorLimits,
        fields: { query, outputs, weights, truncate },
        send: this.#sender(resolved),
      };
      return joinScores(await sendTexts(call, someOf(texts)));
    });
  }

  /** The tokens of a text, as the model would see it. */
  tokenize(text: string, options?: TokenizeOptions): Promise<TextToken[]>;
  /** The tokens of each text, in as many requests as it takes. */
  tokenize(texts: readonly string[], options?: TokenizeOptions): Promise<TextToken[][]>;
  tokenize(
    texts: string | readonly string[],
    options: TokenizeOptions = {},
  ): Promise<TextToken[] | TextToken[][]> {
    return this.#calls.run(options, async (cancellation, resolved) => {
      const isSingle = typeof texts === 'string';
      const call = {
        ...{ path: '/tokenize', field: 'inputs', isSingle, read: readTokens, cancellation },
        options: resolved,
        limits: resolved.limits,
        fields: { add_special_tokens: options.addSpecialTokens },
        send: this.#sender(resolved),
      };
      const rows = (await sendTexts(call, listOf(texts))).flat();
      return isSingle ? rows[0] : rows;
    });
  }

  /**
   * Ends every call with CLIENT_CLOSED and refuses further ones. Resolves when no request is
   * running any more.
   */
  close(): Promise<void> {
    return this.#calls.close();
  }

  async *#stream<Item>(
    source: TextSource,
    options: EncodeHeadsOptions,
    itemOf: (text: EncodedText) => Item,
  ): AsyncGenerator<Item, void, undefined> {
    const resolved = this.#calls.resolve(options);
    const cancellation = this.#calls.open(options.signal, undefined);
    try {
      // The stream itself has no end, but each of its requests has.
      const heads = await runWithin({ ...resolved, parent: cancellation.signal }, (request) =>
        this.#headsOf(options, request, resolved),
      );
      const call = this.#encodeCall(cancellation, resolved, { ...options, heads, isSingle: false });
      for await (const reply of encodeStream(call, source)) {
        for (const text of textsOfReply(reply)) {
          yield itemOf(text);
          cancellation.signal.throwIfAborted();
        }
      }
    } finally {
      this.#calls.shut(cancellation);
    }
  }

  async #headsOf(
    { outputs }: EncodeHeadsOptions,
    cancellation: Cancellation,
    resolved: ResolvedOptions,
  ): Promise<readonly Head[]> {
    if (outputs !== undefined) return headsOf(outputs);
    this.#modelHeads ??= readModelHeads(await this.#calls.get('/info', cancellation, resolved));
    return this.#modelHeads;
  }

  #encodeCall(
    cancellation: Cancellation,
    options: ResolvedOptions,
    given: EncodeOptions & { heads: readonly Head[]; isSingle: boolean },
  ): EncodeCall {
    const { heads, isSingle, onProgress } = given;
    const { truncate, inputType, batchSize } = options.texts;
    const texts = {
      truncate: given.truncate ?? truncate,
      inputType: given.inputType ?? inputType,
      batchSize: given.batchSize ?? batchSize,
      priority: given.priority,
    };
    return {
      options,
      texts,
      heads,
      isSingle,
      onProgress,
      cancellation,
      send: this.#sender(options),
    };
  }

  #sender(options: ResolvedOptions): EncodeCall['send'] {
    return (request, cancellation) => this.#calls.send(options, request, cancellation);
  }
}
