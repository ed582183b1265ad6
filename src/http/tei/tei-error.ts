import type { ErrorCode, ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { ERROR_FIELDS, type Schema } from '../document.ts';
import { type ErrorShape, reportError } from '../error-reply.ts';

const SCHEMA: Schema = {
  type: 'object',
  required: ['error', 'error_type'],
  properties: { ...ERROR_FIELDS, error: { type: 'string' }, error_type: { type: 'string' } },
};

/** Errors as clients of text-embeddings-inference read them. */
export const TEI_ERRORS: ErrorShape = {
  reply: teiErrorReply,
  schema: SCHEMA,
  statuses: [400, 406, 408, 413, 415, 422, 424, 429, 503],
};

/** What text-embeddings-inference calls a kind of error, and the status it answers with. */
interface TeiKind {
  readonly type: 'Empty' | 'Validation' | 'Tokenizer' | 'Backend' | 'Overloaded' | 'Unhealthy';
  readonly status: number;
}

const VALIDATION: TeiKind = { type: 'Validation', status: 422 };

/** Codes that are no plain validation errors there. Source: `router/src/http/server.rs`. */
const KINDS: { readonly [Code in ErrorCode]?: TeiKind } = {
  EMB_TEXT_EMPTY: { type: 'Empty', status: 400 },
  EMB_TOKENIZER_FAILED: { type: 'Tokenizer', status: 422 },
  EMB_TOKENIZER_UNSUPPORTED: { type: 'Tokenizer', status: 422 },
  EMB_HEAD_UNAVAILABLE: { type: 'Backend', status: 424 },
  EMB_BACKEND_FAILED: { type: 'Backend', status: 424 },
  EMB_BACKEND_TIMEOUT: { type: 'Backend', status: 424 },
  EMB_OUTPUT_INVALID: { type: 'Backend', status: 424 },
  EMB_INTERNAL: { type: 'Backend', status: 424 },
  EMB_QUEUE_FULL: { type: 'Overloaded', status: 429 },
  EMB_BACKEND_UNAVAILABLE: { type: 'Unhealthy', status: 503 },
  EMB_SHUTTING_DOWN: { type: 'Unhealthy', status: 503 },
  EMB_DEADLINE_EXCEEDED: { type: 'Overloaded', status: 429 },
};

/** Codes whose status is that of HTTP itself, on every route. */
const HTTP_STATUSES: ReadonlySet<number> = new Set([400, 401, 404, 405, 406, 408, 413, 415, 499]);

/**
 * An error in the shape of text-embeddings-inference, `{"error", "error_type"}`, with our own
 * fields (`code`, `field`, `limit`, `value`, `request_id`) beside them.
 */
function teiErrorReply(error: ServerError, requestId: string, log: Log): Response {
  const { details, headers } = reportError(error, requestId, log);
  const kind = KINDS[error.code] ?? VALIDATION;
  const isHttp = kind === VALIDATION && HTTP_STATUSES.has(error.status);
  const { message, ...rest } = details;
  const body = JSON.stringify({ error: message, error_type: kind.type, ...rest });
  return new Response(body, { status: isHttp ? error.status : kind.status, headers });
}
