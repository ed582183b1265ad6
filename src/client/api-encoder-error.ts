/**
 * What the client itself can find wrong. The server sends none of these; its own codes start with
 * `EMB_`, and its README lists them.
 *
 * - `CLIENT_ARGUMENT_INVALID`: an option or a text of the wrong type or value. Nothing was sent.
 * - `CLIENT_CERTIFICATE_INVALID`: the server's certificate is not trusted here, or is for another
 *   name.
 * - `CLIENT_CLOSED`: `close()` was called, before the call or while it ran.
 * - `CLIENT_CONNECTION_FAILED`: a connection that broke before the reply was whole, or failed for a
 *   reason that the runtime does not tell, as in a browser.
 * - `CLIENT_CONNECTION_REFUSED`: nothing listens at the address.
 * - `CLIENT_HOST_UNKNOWN`: the name of the host has no address.
 * - `CLIENT_HTTP_FAILED`: an error status without the server's own error body, as a proxy sends it.
 * - `CLIENT_MODELS_DIFFER`: servers that were given together serve different models.
 * - `CLIENT_REPLY_INVALID`: a reply that is not what was asked for: broken bytes, a wrong count of
 *   rows, another model.
 * - `CLIENT_SCHEME_WRONG`: http for a server that speaks TLS, or https for one that does not.
 * - `CLIENT_TIMEOUT`: one try took longer than `timeoutMs`, and no try was left.
 * - `CLIENT_TOTAL_TIMEOUT`: all tries together took longer than `totalTimeoutMs`.
 */
export type ClientErrorCode =
  | 'CLIENT_ARGUMENT_INVALID'
  | 'CLIENT_CERTIFICATE_INVALID'
  | 'CLIENT_CLOSED'
  | 'CLIENT_CONNECTION_FAILED'
  | 'CLIENT_CONNECTION_REFUSED'
  | 'CLIENT_HOST_UNKNOWN'
  | 'CLIENT_HTTP_FAILED'
  | 'CLIENT_MODELS_DIFFER'
  | 'CLIENT_REPLY_INVALID'
  | 'CLIENT_SCHEME_WRONG'
  | 'CLIENT_TIMEOUT'
  | 'CLIENT_TOTAL_TIMEOUT';

/** A code of the client, or one of the server. */
export type APIEncoderErrorCode = ClientErrorCode | `EMB_${string}`;

/** What is known beside the message. */
export interface APIEncoderErrorDetails {
  /** HTTP status of the reply; undefined when there was none. */
  readonly status?: number | undefined;
  /** Whether the same call may succeed later. */
  readonly retryable?: boolean | undefined;
  /** The server's id of the request, to be found in its log. */
  readonly requestId?: string | undefined;
  /** What is wrong: `text`, `texts[3]`, or the name of an option or a field. */
  readonly field?: string | undefined;
  /** The limit that was broken. */
  readonly limit?: number | string | undefined;
  /** The value that broke it. Never a text. */
  readonly value?: number | string | undefined;
  /** When the server wants to see the request again, in ms. */
  readonly retryAfterMs?: number | undefined;
  /** How often the request was sent. */
  readonly tryCount?: number | undefined;
  /** From the first try to the failure of the last one, waits included, in ms. */
  readonly elapsedMs?: number | undefined;
  readonly cause?: unknown;
}

/**
 * Every failure of a call but one: a call that its own AbortSignal ended rejects with that signal's
 * reason, as `fetch` does. Match on `code`.
 */
export class APIEncoderError extends Error {
  static {
    // By word and not by class: a bundler shortens the name of a class, and Node prints it.
    Object.defineProperty(APIEncoderError, 'name', { value: 'APIEncoderError' });
    Object.defineProperty(APIEncoderError.prototype, 'name', { value: 'APIEncoderError' });
  }

  readonly code: APIEncoderErrorCode;
  readonly status: number | undefined;
  readonly retryable: boolean;
  readonly requestId: string | undefined;
  readonly field: string | undefined;
  readonly limit: number | string | undefined;
  readonly value: number | string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly tryCount: number | undefined;
  readonly elapsedMs: number | undefined;

  constructor(code: APIEncoderErrorCode, message: string, details: APIEncoderErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.status = details.status;
    this.retryable = details.retryable ?? false;
    this.requestId = details.requestId;
    this.field = details.field;
    this.limit = details.limit;
    this.value = details.value;
    this.retryAfterMs = details.retryAfterMs;
    this.tryCount = details.tryCount;
    this.elapsedMs = details.elapsedMs;
  }
}

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

/** A reply that is not what was asked for. */
export function replyInvalid(problem: string, cause?: unknown): APIEncoderError {
  const message = `The reply is not what was asked for: ${problem}.`;
  return new APIEncoderError('CLIENT_REPLY_INVALID', message, { cause });
}

/** The last error of a request, with how often it was sent; told in its message from two on. */
export function withTries(
  error: APIEncoderError,
  tries: { readonly tryCount: number; readonly elapsedMs: number },
): APIEncoderError {
  const { tryCount, elapsedMs } = tries;
  const told = ` (${tryCount} tries in ${(elapsedMs / 1000).toFixed(1)} s).`;
  const message = tryCount === 1 ? error.message : error.message.replace(/\.?$/, told);
  return new APIEncoderError(error.code, message, { ...error, ...tries, cause: error.cause });
}

/**
 * The error with the caller's name of the field. The server counts texts within one request; the
 * caller counts all texts that it gave.
 *
 * @param place.field what the server calls the texts: `query` on `/encode`.
 * @param place.start place of the request's first text among all.
 * @param place.isSingle the caller gave one text and not an array, and knows it as `text`.
 */
export function withCallersField(
  error: unknown,
  place: { readonly field: string; readonly start: number; readonly isSingle: boolean },
): unknown {
  if (!(error instanceof APIEncoderError) || error.field === undefined) return error;
  const told = error.field;
  if (told !== place.field && !told.startsWith(`${place.field}[`)) return error;
  const index = /\[(\d+)\]$/.exec(told)?.[1];
  const inArray = index === undefined ? 'texts' : `texts[${place.start + Number(index)}]`;
  const field = place.isSingle ? 'text' : inArray;
  const message = error.message.replace(told, field);
  return new APIEncoderError(error.code, message, { ...error, field, cause: error });
}
