import { withCallersField } from './api-encoder-error.ts';
import { type Cancellation, runWithin } from './cancellation.ts';
import {
  type EncodeProgress,
  PRIORITY_HEADER,
  type ResolvedOptions,
  type TextOptions,
} from './client-options.ts';
import { mapInOrder } from './map-in-order.ts';
import {
  createSameModelCheck,
  type EncodeReply,
  type Head,
  type QuantizedType,
  RowMatrix,
  readEncodeReply,
} from './read-encode-reply.ts';
import { type SplitLimits, splitTexts, type TextChunk } from './split-texts.ts';
import type { HttpRequest } from './transport.ts';

/** One call that encodes texts, however many requests it takes. */
export interface EncodeCall {
  readonly options: ResolvedOptions;
  readonly texts: TextOptions;
  readonly heads: readonly Head[];
  /** The type of dense rows; float32 unless told. */
  readonly quantized?: QuantizedType | undefined;
  /** The caller gave one text and not an array; errors call it `text`. */
  readonly isSingle: boolean;
  readonly onProgress: ((progress: EncodeProgress) => void) | undefined;
  readonly cancellation: Cancellation;
  readonly send: (request: HttpRequest, cancellation: Cancellation) => Promise<Uint8Array>;
}

/** Results held for each request in flight: one that the consumer reads, and one in reserve. */
const WINDOW_PER_REQUEST = 2;

/**
 * Encodes an array of texts. Replies are taken as they come: a late one delays no other.
 *
 * @param take gets each reply and the place of its first text among all.
 */
export async function encodeArray(
  call: EncodeCall,
  texts: readonly string[],
  take: (start: number, reply: EncodeReply) => void,
): Promise<void> {
  const report = createProgress(call, texts.length);
  const checkModel = createSameModelCheck();
  const work = async (chunk: TextChunk): Promise<void> => {
    const reply = await encodeChunk(call, chunk, call.cancellation);
    checkModel(reply);
    take(chunk.start, reply);
    report(chunk.texts.length);
  };
  const { concurrency } = call.options;
  const source = splitTexts(texts, limitsOf(call));
  // `take` already has the results: the window holds nothing, and needs no bound.
  const done = mapInOrder({
    source,
    concurrency,
    windowMax: Infinity,
    cancellation: call.cancellation,
    work,
  });
  for await (const _ of done);
}

/** Encodes an array of texts into one matrix, whose rows are views of it. */
export async function encodeMatrix(call: EncodeCall, texts: readonly string[]): Promise<RowMatrix> {
  const matrix = new RowMatrix(texts.length);
  await encodeArray(call, texts, (start, reply) => matrix.place(start, reply));
  return matrix;
}

/**
 * Encodes a stream of texts, one reply after the other and in order. What it holds at any time is
 * bounded by `concurrency` and the size of a request, however long the source is.
 */
export async function* encodeStream(
  call: EncodeCall,
  source: AsyncIterable<string> | Iterable<string>,
): AsyncGenerator<EncodeReply, void, undefined> {
  const { options, cancellation } = call;
  const { concurrency, clock, totalTimeoutMs } = options;
  const report = createProgress(call, Array.isArray(source) ? source.length : undefined);
  const checkModel = createSameModelCheck();
  const work = (chunk: TextChunk): Promise<EncodeReply> =>
    runWithin({ clock, totalTimeoutMs, parent: cancellation.signal }, async (request) => {
      const reply = await encodeChunk(call, chunk, request);
      checkModel(reply);
      report(chunk.texts.length);
      return reply;
    });
  const windowMax = concurrency * WINDOW_PER_REQUEST;
  yield* mapInOrder({
    source: splitTexts(source, limitsOf(call)),
    concurrency,
    windowMax,
    cancellation,
    work,
  });
}

function limitsOf({ heads, options }: EncodeCall): SplitLimits {
  return heads.includes('multi_vector') ? options.multiVectorLimits : options.limits;
}

async function encodeChunk(
  call: EncodeCall,
  chunk: TextChunk,
  cancellation: Cancellation,
): Promise<EncodeReply> {
  const { options, texts, heads, quantized } = call;
  const isDenseOnly = heads.length === 1 && heads[0] === 'dense';
  const request: HttpRequest = {
    method: 'POST',
    path: '/encode',
    headers: {
      ...options.headers,
      ...(texts.priority === undefined ? {} : { [PRIORITY_HEADER]: texts.priority }),
      'content-type': 'application/json',
      accept: `application/msgpack${quantized === undefined ? '' : `; dtype=${quantized}`}`,
    },
    // The request is JSON: texts are no smaller in msgpack, and every engine writes and reads JSON
    // natively. The reply is msgpack, for its vectors.
    body: JSON.stringify({
      query: chunk.texts,
      truncate: texts.truncate,
      input_type: texts.inputType,
      batch_size: texts.batchSize,
      outputs: isDenseOnly ? undefined : heads,
    }),
  };
  try {
    const body = await call.send(request, cancellation);
    return readEncodeReply(body, { textCount: chunk.texts.length, heads, quantized });
  } catch (error) {
    throw withCallersField(error, { field: 'query', start: chunk.start, isSingle: call.isSingle });
  }
}

function createProgress(
  { onProgress, options: { clock } }: EncodeCall,
  textCount: number | undefined,
): (arrivedCount: number) => void {
  const startMs = clock.now();
  let textCountDone = 0;
  return (arrivedCount) => {
    textCountDone += arrivedCount;
    onProgress?.({ textCountDone, textCount, elapsedMs: clock.now() - startMs });
  };
}
