import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { ERROR_FIELDS, objectOf } from '../document.ts';
import { type ErrorShape, reportError } from '../error-reply.ts';

/** Errors as OpenAI's clients turn them into typed exceptions, by status. */
export const OPENAI_ERRORS: ErrorShape = {
  reply: openaiErrorReply,
  schema: objectOf(
    {
      error: objectOf(
        {
          ...ERROR_FIELDS,
          message: { type: 'string' },
          type: { type: 'string' },
          param: { type: 'string', nullable: true },
        },
        ['message', 'type', 'param', 'code'],
      ),
    },
    ['error'],
  ),
  statuses: [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
};

/** OpenAI's API has no 422: what a field has wrong is a 400 there. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/**
 * `{"error": {"message", "type", "param", "code"}}`. Our own fields stand beside theirs; `code` is
 * ours. OpenAI's clients retry every 5xx by themselves; `x-should-retry` tells them what may help.
 */
function openaiErrorReply(error: ServerError, requestId: string, log: Log): Response {
  const { details, headers } = reportError(error, requestId, log);
  const { message, code, field, ...rest } = details;
  headers.set('x-should-retry', String(details.retryable));
  const status = STATUSES[error.status] ?? error.status;
  const theirs = { message, type: typeOf(status), param: field ?? null, code };
  return new Response(JSON.stringify({ error: { ...theirs, ...rest } }), { status, headers });
}

function typeOf(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}
