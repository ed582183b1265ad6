import { type Context, type DocumentDecoration, type Elysia, NotFoundError } from 'elysia';
import { ServerError, shuttingDown, toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { EncodeRequest, EncodeResult } from '../encode/contract.ts';
import { JSON_FORMAT, type ReplyFormat } from '../reply/reply-content.ts';
import type { Access } from './access.ts';
import type { BodyIntake } from './body-intake.ts';
import type { ApiContext, Call, Ending } from './context.ts';
import {
  bodyDocument,
  errorDocuments,
  type Replies,
  type ReplyDocument,
  type ReplyFormats,
  replyDocument,
} from './document.ts';
import { type ErrorShape, NATIVE_ERRORS } from './error-reply.ts';
import { type FieldTable, readerOf, schemaOf, type ValuesOf } from './fields.ts';
import type { ReplyBudget } from './reply-budget.ts';
import {
  isBackgroundRequest,
  negotiateFormat,
  PRIORITY_PARAMETER,
  pathOf,
  readBody,
  requestIdOf,
  timeoutOf,
} from './request.ts';
import { valueCountMaxOf } from './response.ts';
import { inputTypeInHeader, refuseChanging } from './vector-fields.ts';

/**
 * What an API is: routes, and a shape of errors. A route that takes a body is a table of fields and
 * a function from what they read to the reply; what all routes do alike is done here. Then the
 * router: how routes are added, and what answers where there is none.
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
  /** Whether a body of an unknown Content-Type is read as JSON, as the original of the API does. */
  readonly isJsonUnlessTold?: boolean;
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
  const { clock, limits, replyBudget } = context;
  const { formats, summary, description, reply } = route;
  const statuses = [...(route.statuses ?? []), ...(other?.route.statuses ?? [])];
  const answerOf = answering(route, context);
  const answerOfOther = other && answering(other.route, context);
  return {
    method: 'POST',
    paths: [paths].flat(),
    statuses,
    document: {
      summary,
      ...(description === undefined ? {} : { description }),
      parameters: [PRIORITY_PARAMETER],
      requestBody: requestDocument(route, other?.route),
      responses: reply === undefined ? {} : { 200: answerDocument(reply, formats, other?.route) },
    },
    async answer(request, requestId) {
      const startMs = clock.now();
      const format = formatOf(request, formats);
      const isBackground = isBackgroundRequest(request);
      const body = await readBody(request, limits, route.isJsonUnlessTold);
      const readMs = clock.now() - startMs;
      const call = { request, requestId, format, replyBudget, isBackground, startMs, readMs };
      if (answerOfOther && other.isAsked(body)) return await answerOfOther(call, body);
      return await answerOf(call, body);
    },
  };
}

function answering<Table extends FieldTable>(route: PostRoute<Table>, { manifest }: ApiContext) {
  const readFields = readerOf(route.fields, route.unknownFields);
  return (call: Call, body: unknown): Promise<Response> => {
    if (route.unknownFields !== 'refused') refuseChanging(body, route.fields, manifest);
    return route.answer(call, readFields(body));
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

/**
 * Encodes texts for a call, within the bounds that hold for every API.
 *
 * @param work.inputType what a field says; where none does, a header may.
 */
export function encodeTexts(
  { encode, access, limits, manifest }: ApiContext,
  { request, format, replyBudget, isBackground }: Call,
  work: Pick<
    EncodeRequest,
    'texts' | 'heads' | 'truncate' | 'truncationSide' | 'tokenCountMax' | 'fieldOf'
  > & {
    readonly inputType?: EncodeRequest['inputType'] | undefined;
    readonly batchTextsMax?: number | undefined;
    readonly format?: ReplyFormat;
  },
): Promise<EncodeResult> {
  // Heads beside the dense one give more, but nobody knows how much.
  replyBudget.check(work.texts.length * manifest.dimension * DENSE_VALUE_BYTES);
  // Named one by one: this is the hot path, and a spread costs more.
  const asked: EncodeRequest = {
    texts: work.texts,
    heads: work.heads,
    truncate: work.truncate,
    truncationSide: work.truncationSide ?? 'right',
    tokenCountMax: work.tokenCountMax,
    inputType: work.inputType ?? inputTypeInHeader(request),
    fieldOf: work.fieldOf,
    batchTextsMax: work.batchTextsMax,
    valueCountMax: valueCountMaxOf(limits.replyBytesMax, work.format ?? format),
    timeoutMs: timeoutOf(request),
    isBackground,
    bypassesCache: request.headers.get('x-cache') === 'bypass',
    signal: request.signal,
    caller: access.callerOf(request),
  };
  return encode(asked, request);
}

/** Bytes of a value in the least of the common formats. */
const DENSE_VALUE_BYTES = 4;

/** What routes are added to. */
interface AddedTo {
  readonly access: Access;
  readonly bodyIntake: BodyIntake;
  readonly replyBudget: ReplyBudget;
  readonly ending: Ending;
  readonly log: Log;
}

/** Adds all routes of an API. */
export function addApi(app: Elysia, api: Api, addedTo: AddedTo): void {
  const { access, bodyIntake, replyBudget, ending, log } = addedTo;
  for (const route of api.routes) {
    const handler = async ({ request, set }: Pick<Context, 'request' | 'set'>) => {
      const requestId = requestIdOf(request);
      replyBudget.workingCount++;
      try {
        return await route.answer(request, requestId);
      } catch (error) {
        const known = toldOf(toServerError(error), ending);
        return bodyIntake.refuse(request, api.errors.reply(known, requestId, log));
      } finally {
        replyBudget.workingCount--;
        if (ending.isAnnounced) set.headers.connection = 'close';
      }
    };
    for (const path of route.paths) {
      const detail = documentOf(api, route, access.needsKey(route.method, path));
      if (route.method === 'GET') app.get(path, handler, { detail });
      else app.post(path, handler, { parse: 'none', detail });
    }
  }
}

/** Whatever part was closed under a request: its caller is told that the server ends. */
function toldOf(error: ServerError, { isCut }: Ending): ServerError {
  if (!isCut || error.status < 500 || !error.retryable) return error;
  return shuttingDown(error);
}

/** The OpenAPI document of a route: its own words, and the errors that its API has in common. */
function documentOf(
  { tag, errors }: Api,
  { method, document, statuses = [] }: Route,
  needsKey: boolean,
): DocumentDecoration {
  if (document === undefined) return { hide: true };
  const common = [...(needsKey ? [401] : []), ...(method === 'POST' ? errors.statuses : [])];
  const refusals = errorDocuments(errors.schema, [...common, ...statuses]);
  const responses: Replies = { ...document.responses, ...refusals };
  return { tags: [tag], ...document, responses, ...(needsKey ? {} : { security: [] }) };
}

/**
 * Answers what no route has answered: an unknown path, a wrong method, an error outside of a route.
 * It is told in the shape of the API that the path belongs to.
 */
export function unansweredReply(
  error: ServerError,
  { apis, request, log }: { apis: readonly Api[]; request: Request; log: Log },
): Response {
  return errorsAt(apis, pathOf(request)).reply(error, requestIdOf(request), log);
}

function errorsAt(apis: readonly Api[], path: string): ErrorShape {
  const hasRoute = ({ routes }: Api): boolean =>
    routes.some(({ paths }) => paths.some((pattern) => isPathOf(pattern, path)));
  const isBelow = ({ root }: Api): boolean =>
    root !== undefined && (path === root || path.startsWith(`${root}/`));
  // Several APIs have routes below /v1.
  return (apis.find(hasRoute) ?? apis.find(isBelow))?.errors ?? NATIVE_ERRORS;
}

/**
 * The same request without the slashes too many that a base URL with a slash at its end makes of a
 * path; undefined where there are none. Whoever answers it checks its key by the path it has now.
 */
export function withoutRepeatedSlashes(request: Request): Request | undefined {
  const path = pathOf(request);
  const single = path.replace(/\/{2,}/g, '/');
  if (single === path) return undefined;
  const { url } = request;
  const at = url.indexOf(path, url.startsWith('/') ? 0 : url.indexOf('://') + 3);
  return new Request(`http://localhost${single}${url.slice(at + path.length)}`, request);
}

/** Tells a wrong method from a wrong path. */
export function noSuchRoute(app: Elysia, request: Request): ServerError {
  const asked = pathOf(request);
  const routes = routesAt(app, asked);
  const path = asked.slice(0, 100);
  if (routes.length === 0) {
    const message = `There is no route ${path}; GET /swagger lists those there are.`;
    return new ServerError('EMB_ROUTE_UNKNOWN', message, { field: 'path', value: path });
  }
  const allow = [...new Set(routes.map((route) => route.method))].join(', ');
  const message = `${path} takes ${allow}, not ${request.method}.`;
  const details = { field: 'method', limit: allow, value: request.method, allow };
  return new ServerError('EMB_METHOD_NOT_ALLOWED', message, details);
}

/** Those of the routes, by any method, at this path. */
function routesAt(app: Elysia, path: string): Elysia['routes'] {
  return app.routes.filter((route) => isPathOf(route.path, path));
}

/** Whether a route's path, in which `:name` stands for one segment, is this one. */
function isPathOf(pattern: string, path: string): boolean {
  if (!pattern.includes(':')) return pattern === path;
  const [parts, segments] = [pattern.split('/'), path.split('/')];
  const isOne = (part: string, at: number): boolean =>
    part.startsWith(':') ? segments[at] !== '' : part === segments[at];
  return parts.length === segments.length && parts.every(isOne);
}

/** What Elysia must be told so that it finds the path behind any Host of this scheme. */
export function pathOptions({ isTls }: { isTls: boolean }): { standardHostname: boolean } {
  return { standardHostname: isTls };
}

/**
 * Answers 404 where the router would read another path than the caller asked for. Bun's router
 * comes first and reads all of them right; what it does not know goes to Elysia's, which looks for
 * the first slash from a fixed place on: character 7 (the end of `http://`), or 11 with
 * `standardHostname`, which suits `https://` and a Host of at least three characters. So
 * `/playground/encode` without a Host would become `/encode`.
 *
 * What such a request loses is the slash too many at the end of a path, which Elysia forgives.
 */
export function addPathCheck(app: Elysia, { isTls }: { isTls: boolean }): void {
  const isMisread = isTls
    ? (url: string) => url.startsWith('/') || url.indexOf('/', 'https://'.length) < 11
    : (url: string) => url.startsWith('/');
  app.onRequest(({ request }) => {
    if (isMisread(request.url) && !isKnownToBun(app, request)) throw new NotFoundError();
  });
}

function isKnownToBun(app: Elysia, request: Request): boolean {
  const asked = request.method === 'HEAD' ? 'GET' : request.method;
  return routesAt(app, pathOf(request)).some(({ method }) => method === asked);
}
