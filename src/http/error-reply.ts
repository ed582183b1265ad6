import { ERRORS, type ServerError } from '../base/errors.ts';
import { describeError, type Log } from '../base/log.ts';
import { ERROR_FIELDS, objectOf, type Schema } from './document.ts';

/** How an API tells errors: each client understands its own shape alone. */
export interface ErrorShape {
  reply(error: ServerError, requestId: string, log: Log): Response;
  readonly schema: Schema;
  /** Statuses that any call with a body may be answered with. */
  readonly statuses: readonly number[];
}

/** The JSON shape of an error on our own routes. */
export interface ErrorBody {
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly retryable: boolean;
    readonly request_id: string;
    readonly field?: string;
    readonly limit?: number | string;
    readonly value?: number | string;
  };
}

/** Header that carries a request's id both ways. */
export const REQUEST_ID_HEADER = 'x-request-id';

/** Header with the error's code, in every shape of error: for proxies, logs and metrics. */
export const ERROR_CODE_HEADER = 'x-error-code';

/** When to come back to a server that is away or late, in ms, where nobody knows better. */
const AWAY_MS = 1000;

/** Errors of our own routes. */
export const NATIVE_ERRORS: ErrorShape = {
  reply: errorReply,
  schema: objectOf(
    {
      error: objectOf({ ...ERROR_FIELDS, message: { type: 'string' } }, [
        'code',
        'message',
        'retryable',
        'request_id',
      ]),
    },
    ['error'],
  ),
  statuses: [400, 406, 408, 413, 415, 422, 429, 500, 501, 502, 503, 504],
};

/** Turns an error into its reply. The cause goes to the log alone. */
export function errorReply(error: ServerError, requestId: string, log: Log): Response {
  const { status } = error;
  const { details, headers } = reportError(error, status, requestId, log);
  return new Response(JSON.stringify({ error: details }), { status, headers });
}

/**
 * Logs an error, and says what of it every API tells, each in its own shape.
 *
 * @param status that the API answers with: whoever gets 429 or 503 is told when to come back.
 */
export function reportError(
  error: ServerError,
  status: number,
  requestId: string,
  log: Log,
): { details: ErrorBody['error']; headers: Headers } {
  const { field, limit, value, allow, acceptEncoding } = error.details;
  const isAway = status === 429 || status === 503;
  const { retryAfterMs = isAway ? AWAY_MS : undefined } = error.details;
  const cause = error.cause === undefined ? undefined : describeError(error.cause);
  const event = { code: error.code, requestId, cause };
  if (error.status >= 500) log.warn('request-failed', event);
  else log.debug('request-refused', event);
  const details: ErrorBody['error'] = {
    code: error.code,
    message: error.message,
    retryable: ERRORS[error.code].retryable,
    request_id: requestId,
    ...(field === undefined ? {} : { field }),
    ...(limit === undefined ? {} : { limit }),
    ...(value === undefined ? {} : { value }),
  };
  const headers = new Headers({
    'content-type': 'application/json',
    [REQUEST_ID_HEADER]: requestId,
    [ERROR_CODE_HEADER]: error.code,
  });
  if (allow !== undefined) headers.set('allow', allow);
  if (acceptEncoding !== undefined) headers.set('accept-encoding', acceptEncoding);
  if (error.status === 401) headers.set('www-authenticate', 'Bearer');
  if (retryAfterMs !== undefined) {
    for (const [name, value] of Object.entries(comeBackIn(retryAfterMs))) headers.set(name, value);
  }
  return { details, headers };
}

/** Headers that say when to come back. */
export function comeBackIn(ms = AWAY_MS): Record<string, string> {
  return { 'retry-after': String(Math.ceil(ms / 1000)), 'retry-after-ms': String(ms) };
}
