import { ERRORS, type ServerError } from '../base/errors.ts';
import { describeError, type Log } from '../base/log.ts';

/** The one JSON shape of every error on our own routes. */
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

/** Ids that callers may choose: printable, short, nothing that could break a log line. */
const REQUEST_ID = /^[\w.:/+=-]{1,128}$/;

/** The caller's request id when it is a usable one, otherwise a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get(REQUEST_ID_HEADER);
  return given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/** Turns an error into its reply. The cause goes to the log alone. */
export function errorReply(error: ServerError, requestId: string, log: Log): Response {
  const { details, headers } = reportError(error, requestId, log);
  return new Response(JSON.stringify({ error: details }), { status: error.status, headers });
}

/** Logs an error, and says what of it every front door tells, each in its own shape. */
export function reportError(
  error: ServerError,
  requestId: string,
  log: Log,
): { details: ErrorBody['error']; headers: Headers } {
  const { field, limit, value, retryAfterMs, allow } = error.details;
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
  if (error.status === 401) headers.set('www-authenticate', 'Bearer');
  if (retryAfterMs !== undefined) {
    headers.set('retry-after', String(Math.ceil(retryAfterMs / 1000)));
    headers.set('retry-after-ms', String(retryAfterMs));
  }
  return { details, headers };
}
