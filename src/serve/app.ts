import { Elysia } from 'elysia';
import { ServerError, toServerError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Config } from '../config/config.ts';
import type { Parts } from '../encode/contract.ts';
import { createEncode } from '../encode/encode.ts';
import { addAccess } from '../http/access.ts';
import { createBodyIntake } from '../http/body-intake.ts';
import { documentFactsOf } from '../http/document-parts.ts';
import { doorErrorReply } from '../http/door-error.ts';
import { addNativeRoutes } from '../http/native/native.ts';
import { addScoreRoute } from '../http/native/score.ts';
import { createScoringRoom } from '../http/native/scoring-room.ts';
import { addTokenRoutes } from '../http/native/tokens.ts';
import { createObserver } from '../http/observe.ts';
import { addOpenaiRoutes } from '../http/openai/openai.ts';
import { addMetricsRoute } from '../http/ops/metrics.ts';
import { addOperationsRoutes } from '../http/ops/operations.ts';
import { addSwagger } from '../http/ops/swagger.ts';
import { addPlayground } from '../http/playground/playground.ts';
import { addPathCheck, pathOf, pathOptions, routesAt } from '../http/request-path.ts';
import { addTeiRoutes } from '../http/tei/tei.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Tracing } from '../observe/tracing.ts';

/** The other processes of the same server, as this one knows them. */
export interface Siblings {
  /** Which of them this one is, from 0. */
  readonly index: number;
  /** The text for Prometheus, over all of them. */
  scrape(): Promise<string>;
}

/**
 * Parts in, application out; it never listens. A test calls `handle` on it, with absolute URLs of
 * `http://localhost/`.
 *
 * @param options.siblings undefined when this process is the whole server.
 */
export function createApp(options: {
  parts: Parts & { readonly metrics: Metrics; readonly tracing: Tracing | undefined };
  config: Config;
  version: string;
  log: Log;
  siblings?: Siblings | undefined;
}): Elysia {
  const { parts, config, version, log, siblings } = options;
  const { metrics, tracing, clock } = parts;
  const { accessLog } = config;
  const observer = createObserver({ metrics, tracing, clock, log, accessLog });
  const isTls = config.tlsCert !== '';
  const app = new Elysia({ handler: pathOptions({ isTls }) });
  observer.addTo(app);
  app.onError(({ code, error, request }) => {
    const isUnknown = code === 'NOT_FOUND';
    const refusal = isUnknown ? access.refusalOf(request) : undefined;
    const known = refusal ?? (isUnknown ? noSuchRoute(app, request) : toServerError(error));
    const reply = doorErrorReply(known, request, log);
    observer.ended(request, reply);
    return reply;
  });
  const access = addAccess(app, config);
  addPathCheck(app, { isTls });
  const encode = observer.watching(createEncode(parts));
  const bodyIntake = createBodyIntake({ clock, ...config });
  const limits = { ...config, bodyIntake };
  const { admission, backend, manifest, tokenizer, vocabulary } = parts;
  const facts = documentFactsOf(manifest, vocabulary?.vocabularySize, config);
  const door = {
    encode,
    admission,
    manifest,
    tokenizer,
    vocabulary,
    isInProcess: backend.isInProcess,
    heads: () => backend.capabilities().heads,
    limits,
    scoringRoom: createScoringRoom(config),
    callerOf: access.callerOf,
    facts,
    clock,
    log,
  };
  addNativeRoutes(app, door);
  addScoreRoute(app, door);
  addTokenRoutes(app, door);
  addOpenaiRoutes(app, door);
  addTeiRoutes(app, door);
  addOperationsRoutes(app, { parts, config, processIndex: siblings?.index ?? 0, facts, version });
  addMetricsRoute(app, { metrics, scrape: siblings?.scrape, parts, version, facts });
  addPlayground(app);
  addSwagger(app, { version, facts });
  return app;
}

/** Tells a wrong method from a wrong path. */
function noSuchRoute(app: Elysia, request: Request): ServerError {
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
