import { cors } from '@elysiajs/cors';
import type { Elysia } from 'elysia';
import type { Log } from '../base/log.ts';
import type { Config } from '../config.ts';
import { createApiKeys } from './api-keys.ts';
import { doorErrorReply } from './door-error.ts';

/** Says whose request it is; undefined where that is not known, as on a Unix socket. */
export type CallerOf = (request: Request) => string | undefined;

/** How long a browser may remember what it was told of CORS, in s: two hours, Chromium's most. */
const PREFLIGHT_SECONDS = 7200;

/**
 * What stands before every route: CORS, then the API key. Each is added only when it is set, so
 * that nobody pays for what is off. To be called before any route is added.
 *
 * A browser asks about CORS without a key, and must be able to read why a key was refused.
 *
 * @param door.onRefused told of each refusal: no hook sees a reply that is given so early.
 * @returns whose request it is, for fair shares: the name of its key, or else its address.
 * @throws ConfigError as `createApiKeys`.
 */
export function addAccess(
  app: Elysia,
  door: {
    readonly config: Config;
    readonly log: Log;
    readonly onRefused?: (request: Request, reply: Response) => void;
  },
): CallerOf {
  const { config, log } = door;
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
  const takesPost = (path: string): boolean =>
    app.routes.some((route) => route.method === 'POST' && route.path === path);
  const keys = createApiKeys(config, takesPost);
  if (keys === undefined) return addressOf;
  app.onRequest(({ request }) => {
    const refusal = keys.refusalOf(request);
    if (refusal === undefined) return undefined;
    const reply = doorErrorReply(refusal, request, log);
    door.onRefused?.(request, reply);
    return reply;
  });
  return (request) => keys.nameOf(request) ?? addressOf(request);
}
