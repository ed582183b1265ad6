import { Elysia } from 'elysia';
import { ServerError, toServerError } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { Metrics } from './base/metrics.ts';
import type { Tracing } from './base/tracing.ts';
import type { Config } from './config.ts';
import { createEncode, type Parts } from './encode.ts';
import { addAccess } from './http/access.ts';
import { createBodyIntake } from './http/body-intake.ts';
import { documentFactsOf } from './http/document-parts.ts';
import { doorErrorReply } from './http/door-error.ts';
import { addMetricsRoute } from './http/metrics.ts';
import { addNativeRoutes } from './http/native.ts';
import { createObserver } from './http/observe.ts';
import { addOpenaiRoutes } from './http/openai.ts';
import { addOperationsRoutes } from './http/operations.ts';
import { addPlayground } from './http/playground.ts';
import { addScoreRoute } from './http/score.ts';
import { createScoringRoom } from './http/scoring-room.ts';
import { addSwagger } from './http/swagger.ts';
import { addTeiRoutes } from './http/tei.ts';
import { addTokenRoutes } from './http/tokens.ts';

/**
 * Parts in, application out; it never listens. A test calls `handle` on it, with absolute URLs of
 * `http://localhost/`.
 */
export function createApp(options: {
  parts: Parts & { readonly metrics: Metrics; readonly tracing: Tracing | undefined };
  config: Config;
  version: string;
  log: Log;
}): Elysia {
  const { parts, config, version, log } = options;
  const { metrics, tracing, clock } = parts;
  const { accessLog } = config;
  const observer = createObserver({ metrics, tracing, clock, log, accessLog });
  const app = new Elysia();
  observer.addTo(app);
  app.onError(({ code, error, request }) => {
    const known = code === 'NOT_FOUND' ? noSuchRoute(app, request) : toServerError(error);
    const reply = doorErrorReply(known, request, log);
    observer.ended(request, reply);
    return reply;
  });
  const callerOf = addAccess(app, { config, log, onRefused: observer.ended });
  const encode = observer.watching(createEncode(parts));
  const bodyIntake = createBodyIntake({ clock, ...config });
  const limits = { ...config, bodyIntake };
  const { backend, manifest, tokenizer, vocabulary } = parts;
  const facts = documentFactsOf(manifest, vocabulary?.vocabularySize, config);
  const door = {
    encode,
    manifest,
    tokenizer,
    vocabulary,
    backendName: backend.name,
    heads: () => backend.heads(),
    limits,
    scoringRoom: createScoringRoom(config),
    callerOf,
    facts,
    clock,
    log,
  };
  addNativeRoutes(app, door);
  addScoreRoute(app, door);
  addTokenRoutes(app, door);
  addOpenaiRoutes(app, door);
  addTeiRoutes(app, door);
  addOperationsRoutes(app, { parts, config, facts, version });
  addMetricsRoute(app, { metrics, parts, version, facts });
  addPlayground(app);
  addSwagger(app, { version, facts });
  return app;
}

/** Tells a wrong method from a wrong path. */
function noSuchRoute(app: Elysia, request: Request): ServerError {
  const { pathname } = new URL(request.url);
  const routes = app.routes.filter((route) => isPathOf(route.path, pathname));
  const path = pathname.slice(0, 100);
  if (routes.length === 0) {
    const message = `There is no route ${path}; GET /swagger lists those there are.`;
    return new ServerError('EMB_ROUTE_UNKNOWN', message, { field: 'path', value: path });
  }
  const allow = [...new Set(routes.map((route) => route.method))].join(', ');
  const message = `${path} takes ${allow}, not ${request.method}.`;
  const details = { field: 'method', limit: allow, value: request.method, allow };
  return new ServerError('EMB_METHOD_NOT_ALLOWED', message, details);
}

/** Whether a route's path, in which `:name` stands for one segment, is this one. */
function isPathOf(pattern: string, pathname: string): boolean {
  if (!pattern.includes(':')) return pattern === pathname;
  const [parts, segments] = [pattern.split('/'), pathname.split('/')];
  const isOne = (part: string, at: number): boolean =>
    part.startsWith(':') ? segments[at] !== '' : part === segments[at];
  return parts.length === segments.length && parts.every(isOne);
}
