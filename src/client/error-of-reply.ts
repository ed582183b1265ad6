import { APIEncoderError } from './api-encoder-error.ts';

/** Statuses after which the same request may succeed, for replies that do not say so themselves. */
const RETRYABLE_STATUSES: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

/**
 * The error that an error reply stands for: the server's own, or what can be read from the status
 * when a proxy sent it.
 */
export function errorOfReply(reply: {
  status: number;
  headers: Headers;
  body: Uint8Array;
}): APIEncoderError {
  const { status, headers } = reply;
  const told = errorFieldsOf(reply.body);
  const requestId = headers.get('x-request-id') ?? undefined;
  const retryAfterMs = retryAfterMsOf(headers);
  if (told === undefined) {
    const retryable = RETRYABLE_STATUSES.has(status);
    const message = `The server answered ${status} without an error of its own.`;
    const details = { status, retryable, requestId, retryAfterMs };
    return new APIEncoderError('CLIENT_HTTP_FAILED', message, details);
  }
  return new APIEncoderError(told.code, told.message, {
    status,
    retryable: told.retryable === true,
    requestId: textOf(told.request_id) ?? requestId,
    field: textOf(told.field),
    limit: textOrNumberOf(told.limit),
    value: textOrNumberOf(told.value),
    retryAfterMs,
  });
}

/**
 * When to come back, in ms: `retry-after-ms`, else `retry-after` in seconds or as a date. A date is
 * read against the reply's own `date`, so that no wall clock of ours, right or wrong, comes in.
 */
export function retryAfterMsOf(headers: Headers): number | undefined {
  const exact = durationOf(headers.get('retry-after-ms'));
  if (exact !== undefined) return exact;
  const value = headers.get('retry-after');
  const seconds = durationOf(value);
  if (seconds !== undefined) return seconds * 1000;
  const ms = Date.parse(value ?? '') - Date.parse(headers.get('date') ?? '');
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

function durationOf(value: string | null): number | undefined {
  return value !== null && /^\d+(\.\d+)?$/.test(value) ? Number(value) : undefined;
}

interface ErrorFields extends Record<string, unknown> {
  readonly code: `EMB_${string}`;
  readonly message: string;
}

function errorFieldsOf(body: Uint8Array): ErrorFields | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
  const whole = parsed as { error?: unknown } | null;
  // Routes in the shape of text-embeddings-inference have the words in `error`, the rest beside it.
  const isFlat = typeof whole?.error === 'string';
  const fields = (isFlat ? { ...whole, message: whole.error } : whole?.error) as
    | Partial<ErrorFields>
    | undefined;
  const isOurs = textOf(fields?.code)?.startsWith('EMB_') && typeof fields?.message === 'string';
  return isOurs ? (fields as ErrorFields) : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function textOrNumberOf(value: unknown): string | number | undefined {
  return typeof value === 'number' ? value : textOf(value);
}
