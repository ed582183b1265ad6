import { type DocumentDecoration, type Elysia, NotFoundError } from 'elysia';
import { ServerError, toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Access } from './access.ts';
import type { Api, Route } from './api.ts';
import type { BodyIntake } from './body-intake.ts';
import type { Ending } from './context.ts';
import { errorDocuments, type Replies } from './document.ts';
import { type ErrorShape, NATIVE_ERRORS } from './error-reply.ts';
import { pathOf, requestIdOf } from './request.ts';

/** The one place that knows which paths there are, and whose they are. */

/** What routes are added to. */
interface AddedTo {
  readonly access: Access;
  readonly bodyIntake: BodyIntake;
  readonly ending: Ending;
  readonly log: Log;
}

/** Adds all routes of an API. */
export function addApi(app: Elysia, api: Api, { access, bodyIntake, ending, log }: AddedTo): void {
  for (const route of api.routes) {
    const handler = async ({ request }: { request: Request }): Promise<unknown> => {
      const requestId = requestIdOf(request);
      try {
        return await route.answer(request, requestId);
      } catch (error) {
        const known = toldOf(toServerError(error), ending);
        return bodyIntake.refuse(request, api.errors.reply(known, requestId, log));
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
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.', { cause: error });
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
  const isIn = ({ root, routes }: Api): boolean =>
    (root !== undefined && (path === root || path.startsWith(`${root}/`))) ||
    routes.some(({ paths }) => paths.some((pattern) => isPathOf(pattern, path)));
  return apis.find(isIn)?.errors ?? NATIVE_ERRORS;
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
