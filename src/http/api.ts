import type { DocumentDecoration } from 'elysia';
import { ServerError } from '../base/errors.ts';
import type { EncodeRequest, EncodeResult } from '../encode/contract.ts';
import { JSON_FORMAT, negotiateFormat, type ReplyFormat } from '../reply/reply-format.ts';
import type { ApiContext, Call } from './context.ts';
import { bodyDocument, type ReplyDocument, type ReplyFormats, replyDocument } from './document.ts';
import type { ErrorShape } from './error-reply.ts';
import { type FieldTable, readerOf, schemaOf, type ValuesOf } from './fields.ts';
import { readBody, timeoutOf } from './request.ts';
import { valueCountMaxOf } from './response.ts';
import { refuseChanging } from './vector-fields.ts';

/**
 * What an API is: routes, and a shape of errors. A route that takes a body is a table of fields and
 * a function from what they read to the reply; what all routes do alike is done here.
 */

/** One API, as the server offers several side by side. */
export interface Api {
  /** The heading of its routes in the OpenAPI document. */
  readonly tag: string;
  readonly errors: ErrorShape;
  /** Paths below it belong to this API even where there is no route: `/v1`. */
  readonly root?: string;
  readonly routes: readonly Route[];
}

/** One route of an API, at one path or several. */
export interface Route {
  readonly method: 'GET' | 'POST';
  /** As patterns of the router. Metrics count requests by them. */
  readonly paths: readonly string[];
  /** Undefined for what the document leaves out. */
  readonly document: DocumentDecoration | undefined;
  /** Statuses of errors beside those that all calls of the API may be answered with. */
  readonly statuses?: readonly number[];
  /** What is no Response is sent as JSON. Its errors are told in the API's shape. */
  answer(request: Request, requestId: string): unknown;
}

/** A route that takes a body. */
export interface PostRoute<Table extends FieldTable> {
  readonly fields: Table;
  /** What is done with other fields. Ignored by default, as clients of other APIs expect. */
  readonly unknownFields?: 'ignored' | 'refused';
  /** The formats of its reply; a request that accepts no other is refused before any work. */
  readonly formats: ReplyFormats;
  readonly summary: string;
  readonly description?: string;
  readonly examples: Readonly<Record<string, unknown>>;
  /** Undefined where this model has no such reply, and every call is refused. */
  readonly reply: ReplyDocument | undefined;
  readonly statuses?: readonly number[];
  answer(call: Call, fields: ValuesOf<Table>): Promise<Response>;
}

/** Another call at the same path, told apart by its body: TEI's and Cohere's `/rerank`. */
export interface OtherCall {
  /** @param body as it came; nothing of it is checked yet. */
  isAsked(body: unknown): boolean;
  readonly route: PostRoute<FieldTable>;
}

/**
 * Makes a route that takes a body: it reads the request, checks its fields, and answers.
 *
 * @param other a second call at these paths. Its formats are those of the route.
 */
export function post<Table extends FieldTable>(
  context: ApiContext,
  paths: string | readonly string[],
  route: PostRoute<Table>,
  other?: OtherCall,
): Route {
  const { clock, limits } = context;
  const { formats, summary, description, reply, statuses = [] } = route;
  const answerOf = answering(route, context);
  const answerOfOther = other && answering(other.route, context);
  return {
    method: 'POST',
    paths: [paths].flat(),
    statuses,
    document: {
      summary,
      ...(description === undefined ? {} : { description }),
      requestBody: requestDocument(route, other?.route),
      responses: reply === undefined ? {} : { 200: answerDocument(reply, formats, other?.route) },
    },
    async answer(request, requestId) {
      const startMs = clock.now();
      const format = formatOf(request, formats);
      const body = await readBody(request, limits);
      const readMs = clock.now() - startMs;
      const call = { request, requestId, format, startMs, readMs };
      if (answerOfOther && other.isAsked(body)) return answerOfOther(call, body);
      return answerOf(call, body);
    },
  };
}

function answering<Table extends FieldTable>(route: PostRoute<Table>, { manifest }: ApiContext) {
  const readFields = readerOf(route.fields, route.unknownFields);
  return async (call: Call, body: unknown): Promise<Response> => {
    if (route.unknownFields !== 'refused') refuseChanging(body, route.fields, manifest);
    return await route.answer(call, readFields(body));
  };
}

function requestDocument<Table extends FieldTable>(
  { fields, unknownFields, examples }: PostRoute<Table>,
  other: PostRoute<FieldTable> | undefined,
) {
  const own = schemaOf(fields, unknownFields);
  if (other === undefined) return bodyDocument(own, examples);
  const schema = { oneOf: [own, schemaOf(other.fields, other.unknownFields)] };
  return bodyDocument(schema, { ...examples, ...other.examples });
}

function answerDocument(
  reply: ReplyDocument,
  formats: ReplyFormats,
  other: PostRoute<FieldTable> | undefined,
) {
  if (other?.reply === undefined) return replyDocument(reply, formats);
  const schema = { anyOf: [reply.schema, other.reply.schema] };
  return replyDocument({ ...reply, schema }, formats);
}

/** Makes a route that is only read. */
export function get(
  paths: string | readonly string[],
  document: Route['document'],
  answer: Route['answer'],
): Route {
  return { method: 'GET', paths: [paths].flat(), document, answer };
}

function formatOf(request: Request, formats: ReplyFormats): ReplyFormat {
  if (formats === 'json') return JSON_FORMAT;
  const format = negotiateFormat(request.headers.get('accept'));
  if (format.kind !== 'raw' || formats === 'vectors') return format;
  const message =
    'accept: application/octet-stream carries dense vectors only; here accept application/json ' +
    'or application/msgpack.';
  const details = { field: 'accept', value: 'application/octet-stream' };
  throw new ServerError('EMB_ACCEPT_UNSUPPORTED', message, details);
}

/** Encodes texts for a call, within the bounds that hold for every API. */
export function encodeTexts(
  { encode, access, limits }: ApiContext,
  { request, format }: Call,
  work: Pick<
    EncodeRequest,
    'texts' | 'heads' | 'truncate' | 'truncationSide' | 'inputType' | 'fieldOf'
  > & { readonly batchTextsMax?: number | undefined; readonly format?: ReplyFormat },
): Promise<EncodeResult> {
  // Named one by one: this is the hot path, and a spread costs more.
  const asked: EncodeRequest = {
    texts: work.texts,
    heads: work.heads,
    truncate: work.truncate,
    truncationSide: work.truncationSide ?? 'right',
    inputType: work.inputType,
    fieldOf: work.fieldOf,
    batchTextsMax: work.batchTextsMax,
    valueCountMax: valueCountMaxOf(limits.replyBytesMax, work.format ?? format),
    timeoutMs: timeoutOf(request),
    bypassesCache: request.headers.get('x-cache') === 'bypass',
    signal: request.signal,
    caller: access.callerOf(request),
  };
  return encode(asked, request);
}
