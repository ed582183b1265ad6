/**
 * What the client itself can find wrong. The server sends none of these; its own codes start with
 * `EMB_`, and its README lists them.
 *
 * - `CLIENT_ARGUMENT_INVALID`: an option or a text of the wrong type or value. Nothing was sent.
 * - `CLIENT_CLOSED`: `close()` was called, before the call or while it ran.
 * - `CLIENT_CONNECTION_FAILED`: no connection, or one that broke before the reply was whole.
 * - `CLIENT_HTTP_FAILED`: an error status without the server's own error body, as a proxy sends it.
 * - `CLIENT_REPLY_INVALID`: a reply that is not what was asked for: broken bytes, a wrong count of
 *   rows, another model.
 * - `CLIENT_TIMEOUT`: one try took longer than `timeoutMs`, and no try was left.
 * - `CLIENT_TOTAL_TIMEOUT`: all tries together took longer than `totalTimeoutMs`.
 */
export type ClientErrorCode =
  | 'CLIENT_ARGUMENT_INVALID'
  | 'CLIENT_CLOSED'
  | 'CLIENT_CONNECTION_FAILED'
  | 'CLIENT_HTTP_FAILED'
  | 'CLIENT_REPLY_INVALID'
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
  readonly cause?: unknown;
}

/**
 * Every failure of a call but one: a call that its own AbortSignal ended rejects with that signal's
 * reason, as `fetch` does. Match on `code`.
 */
export class APIEncoderError extends Error {
  override readonly name = 'APIEncoderError';
  readonly code: APIEncoderErrorCode;
  readonly status: number | undefined;
  readonly retryable: boolean;
  readonly requestId: string | undefined;
  readonly field: string | undefined;
  readonly limit: number | string | undefined;
  readonly value: number | string | undefined;
  readonly retryAfterMs: number | undefined;

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
  }
}
