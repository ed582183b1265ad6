import type { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { reportError } from '../error-reply.ts';

/** OpenAI's API has no 422: what a field has wrong is a 400 there. */
const STATUSES: Readonly<Record<number, number>> = { 422: 400 };

/**
 * An error in OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`, which its clients
 * turn into typed exceptions by status. Our own fields stand beside theirs; `code` is ours.
 *
 * `x-should-retry` tells OpenAI's clients, which retry every 5xx by themselves, what may help.
 */
export function openaiErrorReply(error: ServerError, requestId: string, log: Log): Response {
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
