import { Elysia } from 'elysia';
import { ServerError, toServerError } from './base/errors.ts';
import type { Log } from './base/log.ts';
import type { Config } from './config.ts';
import { createEncode, type Parts } from './encode.ts';
import { errorReply, requestIdOf } from './http/error-reply.ts';
import { addNativeRoutes } from './http/native.ts';
import { addOperationsRoutes } from './http/operations.ts';
import { addScoreRoute } from './http/score.ts';
import { addSwagger } from './http/swagger.ts';
import { addTokenRoutes } from './http/tokens.ts';

/**
 * Parts in, application out; it never listens. A test calls `handle` on it, with absolute URLs of
 * `http://localhost/`.
 */
export function createApp(options: {
  parts: Parts;
  config: Config;
  version: string;
  log: Log;
}): Elysia {
  const { parts, config, version, log } = options;
  const app = new Elysia();
  app.onError(({ code, error, request }) => {
    const known = code === 'NOT_FOUND' ? noSuchRoute(app, request) : toServerError(error);
    return errorReply(known, requestIdOf(request), log);
  });
  const encode = createEncode(parts);
  const { tokenizer, vocabulary, clock } = parts;
  addNativeRoutes(app, {
    encode,
    manifest: parts.manifest,
    limits: config,
    clock,
    log,
  });
  addScoreRoute(app, {
    encode,
    manifest: parts.manifest,
    heads: () => parts.backend.heads(),
    limits: config,
    clock,
    log,
  });
  addTokenRoutes(app, { tokenizer, vocabulary, limits: config, clock, log });
  addOperationsRoutes(app, { parts, config, version });
  addSwagger(app, version);
  return app;
}

/** Tells a wrong method from a wrong path. */
function noSuchRoute(app: Elysia, request: Request): ServerError {
  const { pathname } = new URL(request.url);
  const routes = app.routes.filter((route) => route.path === pathname);
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
