import { pack } from 'msgpackr';
import type { EncodeResult, StageTimings } from '../encode/contract.ts';
import { type ByteWriter, encodeReply, writeJson } from '../reply/encode-reply.ts';
import type { EncodeReply, ReplyFormat, SparseRow } from '../reply/reply-content.ts';
import { giveBackReplyMemory, isStreamed } from '../reply/reply-memory.ts';
import type { ApiContext, Call } from './context.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';

/** The replies that routes give, whatever their API. */

/** Header that names who stood in for the backend that should have answered; absent otherwise. */
const SERVED_BY_HEADER = 'x-served-by';

/** What a reply with vectors is made of. */
export interface VectorAnswer {
  /** What was encoded; sparse rows may have their pieces. */
  readonly result: Omit<EncodeResult, 'sparse'> & {
    readonly sparse?: readonly SparseRow[] | undefined;
  };
  readonly format: ReplyFormat;
  readonly dimension: number;
  /** Whether the caller sent one text and no list. */
  readonly isSingle: boolean;
  /**
   * Writes the JSON document of an API that is not ours. Binary formats have one shape on every
   * route, that of `/encode`.
   */
  readonly writeBody?: (writer: ByteWriter) => void;
  /** The API's own. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** The reply to a call that asked for vectors. */
export function vectorReply(
  { manifest, clock, limits }: ApiContext,
  call: Call,
  answer: VectorAnswer,
): Response {
  const { result, format, writeBody } = answer;
  const encodedMs = limits.serverTiming ? clock.now() : 0;
  const { body, contentType, headers } =
    format.kind === 'json' && writeBody !== undefined
      ? { body: writeJson(writeBody), contentType: 'application/json', headers: undefined }
      : encodeReply(contentOf(answer, manifest.id), format);
  const sent = bodyToSend(call, body);
  const isWaiting = sent === body && isStreamed(body);
  const response = new Response(isWaiting ? streamOf(body, result.giveBack) : sent);
  // Set one by one: a record of them takes the runtime half as long again.
  const set = (more: Readonly<Record<string, string>> | undefined): void => {
    for (const name in more) response.headers.set(name, more[name]);
  };
  response.headers.set(REQUEST_ID_HEADER, call.requestId);
  response.headers.set('content-type', contentType);
  set(headers);
  if (writeBody !== undefined) set(toldHeaders(result));
  set(answer.headers);
  if (result.standIn !== undefined) response.headers.set(SERVED_BY_HEADER, result.standIn);
  if (limits.serverTiming) {
    const timings = { readMs: call.readMs, ...result.timings, replyMs: clock.now() - encodedMs };
    response.headers.set('server-timing', serverTiming(timings));
  }
  if (!isWaiting) {
    giveBackReplyMemory(body);
    result.giveBack();
  }
  return response;
}

/** As `ReplyBudget.bodyOf`. Where there is no room, the memory is not left to the collector. */
function bodyToSend({ replyBudget, requestId }: Call, body: Uint8Array<ArrayBuffer>) {
  try {
    return replyBudget.bodyOf(body, requestId);
  } catch (error) {
    giveBackReplyMemory(body);
    throw error;
  }
}

/**
 * A large body as a stream that is written as one piece, when the runtime sends the reply. It sends
 * the head of a stream as one piece, too, and with a Content-Length, where the body is within the
 * mark up to which it gathers. Of bytes that a handler returns later it sends the head in twenty,
 * which costs 75 µs and more.
 *
 * @param giveBack told when nobody reads the body any more; never, where the caller has left.
 */
function streamOf(body: Uint8Array<ArrayBuffer>, giveBack: () => void): ReadableStream {
  const source: Bun.DirectUnderlyingSource<Uint8Array> = {
    type: 'direct',
    pull(controller) {
      controller.write(body);
      controller.end();
      giveBackReplyMemory(body);
      giveBack();
    },
  };
  // The types of the standard do not know the runtime's own kind.
  return new ReadableStream(source as unknown as UnderlyingSource, {
    highWaterMark: body.length + 1,
  });
}

function contentOf({ result, dimension, isSingle }: VectorAnswer, model: string): EncodeReply {
  return {
    model,
    dimension,
    single: isSingle,
    rows: result.rows,
    sparse: result.sparse,
    multiVectors: result.multiVectors,
    halfVectors: result.halfVectors,
    tokenCounts: result.tokenCounts,
    truncated: result.truncated,
    empty: result.empty,
  };
}

/**
 * How many texts were cut, and of how many nothing was left to encode: the replies of other APIs
 * have no place for it, and both are always told.
 */
export function toldHeaders({
  truncated,
  empty = [],
}: Pick<EncodeResult, 'truncated' | 'empty'>): Record<string, string> {
  const count = (flags: readonly boolean[]): string => String(flags.filter(Boolean).length);
  return { 'x-truncated-count': count(truncated), 'x-empty-count': count(empty) };
}

/** A reply of plain values, in JSON or msgpack as the call accepts. */
export function valueReply(
  { format, requestId, replyBudget }: Call,
  value: unknown,
  headers?: Readonly<Record<string, string>>,
): Response {
  const isJson = format.kind === 'json';
  const bytes = isJson ? Buffer.from(JSON.stringify(value)) : new Uint8Array(pack(value));
  return new Response(replyBudget.bodyOf(bytes, requestId), {
    headers: {
      'content-type': isJson ? 'application/json' : 'application/msgpack',
      [REQUEST_ID_HEADER]: requestId,
      ...headers,
    },
  });
}

/** Every stage that a reply can tell of, in ms. */
export interface ReplyTimings extends StageTimings {
  /** Receiving, decoding and checking the request. */
  readonly readMs: number;
  /** Encoding the reply. */
  readonly replyMs: number;
}

/** A `Server-Timing` header (W3C): one entry a stage, durations in ms. */
export function serverTiming(timings: ReplyTimings): string {
  const { readMs, tokenizeMs, queueMs, inferMs, replyMs } = timings;
  const stages = { read: readMs, tokenize: tokenizeMs, queue: queueMs, infer: inferMs };
  const told = Object.entries({ ...stages, reply: replyMs })
    .map(([name, ms]) => `${name};dur=${ms.toFixed(3)}`)
    .join(', ');
  const { cachedTextCount, coalescedTextCount = 0 } = timings;
  const cached = cachedTextCount === undefined ? '' : `, cache;desc="${cachedTextCount}"`;
  const coalesced = coalescedTextCount === 0 ? '' : `, coalesced;desc="${coalescedTextCount}"`;
  return told + cached + coalesced;
}

/** Float32 values that fit a reply of so many bytes in this format. */
export function valueCountMaxOf(replyBytesMax: number, format: ReplyFormat): number {
  return Math.floor(replyBytesMax / bytesPerValue(format));
}

/**
 * Bytes of one float32 in a reply. In JSON a unit vector's component takes 12 on average, its comma
 * included.
 */
function bytesPerValue(format: ReplyFormat): number {
  if (format.kind !== 'json') return format.dtype === 'float16' ? 2 : 4;
  return format.encoding === 'base64' ? 6 : 12;
}

/**
 * The tokens that the model has seen of all texts together: special tokens included, tokens that
 * were cut off not.
 */
export function usedTokenCount(tokenCounts: readonly number[], tokenCountMax: number): number {
  return tokenCounts.reduce((sum, count) => sum + Math.min(count, tokenCountMax), 0);
}
