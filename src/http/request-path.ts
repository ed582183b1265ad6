import { type Elysia, NotFoundError } from 'elysia';

/**
 * The path that a request asks for, as the router reads it: up to the query, undecoded. Never
 * throws: where Host is missing or no name, Bun leaves the path alone as the URL, and elsewhere
 * lets pass what `new URL` does not take.
 */
export function pathOf({ url }: Request): string {
  const start = url.startsWith('/') ? 0 : url.indexOf('/', url.indexOf('://') + 3);
  const end = url.indexOf('?', start + 1);
  return end < 0 ? url.slice(start) : url.slice(start, end);
}

/** Those of the routes, by any method, at this path. */
export function routesAt(app: Elysia, path: string): Elysia['routes'] {
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
