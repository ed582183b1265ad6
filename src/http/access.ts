import { cors } from '@elysiajs/cors';
import type { Elysia } from 'elysia';
import type { ServerError } from '../base/errors.ts';
import type { Config } from '../config/config.ts';
import { createApiKeys } from './api-keys.ts';

/** Says whose request it is; undefined where that is not known, as on a Unix socket. */
export type CallerOf = (request: Request) => string | undefined;

/** How long a browser may remember what it was told of CORS, in s: two hours, Chromium's most. */
const PREFLIGHT_SECONDS = 7200;

/** Who may pass, and who they are. */
export interface Access {
  /** For fair shares: the name of the caller's key, or else its address. */
  readonly callerOf: CallerOf;
  /** Why a request that no route answers is refused, EMB_KEY_INVALID; undefined when it may pass. */
  refusalOf(request: Request): ServerError | undefined;
}

/**
 * What stands before every route: CORS, then the API key. Each is added only when it is set, so
 * that nobody pays for what is off. To be called before any route is added.
 *
 * A browser asks about CORS without a key, and must be able to read why a key was refused.
 *
 * @throws ConfigError as `createApiKeys`.
 */
export function addAccess(app: Elysia, config: Config): Access {
  if (config.corsOrigins.length > 0) {
    app.use(
      cors({
        origin: [...config.corsOrigins],
        methods: ['GET', 'POST'],
        // OpenAI's client alone sends a dozen of its own. The star leaves out authorization.
        allowedHeaders: ['*', 'authorization'],
        exposeHeaders: ['*'],
        credentials: false,
        maxAge: PREFLIGHT_SECONDS,
      }),
    );
  }
  const addressOf: CallerOf = (request) => app.server?.requestIP(request)?.address;
  const keys = createApiKeys(config);
  if (keys === undefined) return { callerOf: addressOf, refusalOf: () => undefined };
  app.onBeforeHandle(({ request, route }) => {
    const refusal = keys.refusalOf(request, route);
    if (refusal !== undefined) throw refusal;
  });
  return {
    callerOf: (request) => keys.nameOf(request) ?? addressOf(request),
    refusalOf: (request) => keys.refusalOf(request, undefined),
  };
}
