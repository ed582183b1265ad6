/**
 * The catalogue of everything that can go wrong for a caller.
 *
 * A code is forever: clients match on it. The README's table is checked against this one, and
 * whoever handles an error asks this table, so that no file keeps a set of codes of its own.
 */
export const ERRORS = {
  EMB_BODY_MALFORMED: {
    status: 400,
    retryable: false,
    meaning: 'The body is not valid JSON or msgpack.',
  },
  EMB_KEY_INVALID: {
    status: 401,
    retryable: false,
    meaning: 'No API key, or not one of this server.',
  },
  EMB_MODEL_UNKNOWN: {
    status: 404,
    retryable: false,
    meaning: 'The request names another model than the one that is served.',
  },
  EMB_ROUTE_UNKNOWN: { status: 404, retryable: false, meaning: 'No such route.' },
  EMB_METHOD_NOT_ALLOWED: {
    status: 405,
    retryable: false,
    meaning: 'The route exists, for another method.',
  },
  EMB_ACCEPT_UNSUPPORTED: {
    status: 406,
    retryable: false,
    meaning: 'No reply format in Accept is known.',
  },
  EMB_BODY_TIMEOUT: {
    status: 408,
    retryable: true,
    meaning: 'The body took too long to arrive.',
  },
  EMB_BODY_TOO_LARGE: {
    status: 413,
    retryable: false,
    meaning: 'The body has too many bytes, or too many values.',
  },
  EMB_CONTENT_TYPE_UNSUPPORTED: {
    status: 415,
    retryable: false,
    meaning: 'The body is neither JSON nor msgpack.',
  },
  EMB_CONTENT_ENCODING_UNSUPPORTED: {
    status: 415,
    retryable: false,
    meaning: 'The body is packed in a way that is not taken; Accept-Encoding lists those that are.',
  },
  EMB_FIELD_MISSING: { status: 422, retryable: false, meaning: 'A required field is missing.' },
  EMB_FIELD_INVALID: {
    status: 422,
    retryable: false,
    meaning: 'A field has the wrong type or value.',
  },
  EMB_FIELD_UNKNOWN: {
    status: 422,
    retryable: false,
    meaning: 'A field that /encode does not have; ALLOW_UNKNOWN_FIELDS ignores it.',
  },
  EMB_TEXT_EMPTY: {
    status: 422,
    retryable: false,
    meaning: 'The array of texts is empty; or a text is, and EMPTY_TEXTS is refuse.',
  },
  EMB_TEXT_TOO_LONG: {
    status: 422,
    retryable: false,
    meaning:
      'A text is over a limit, and truncate is false; or it takes more memory than there is.',
  },
  EMB_TEXT_NOT_UNICODE: {
    status: 422,
    retryable: false,
    meaning: 'A text has a lone surrogate or broken UTF-8.',
  },
  EMB_TEXT_REFUSED: {
    status: 422,
    retryable: false,
    blames: 'text',
    meaning: 'The text has ended a worker twice; it is refused for a while.',
  },
  EMB_TEXTS_TOO_MANY: {
    status: 422,
    retryable: false,
    meaning: 'More texts than one request may carry.',
  },
  EMB_TOKEN_IDS_REFUSED: {
    status: 422,
    retryable: false,
    meaning: 'Token ids in place of a text: not allowed here, too many, or of another vocabulary.',
  },
  EMB_HEAD_UNAVAILABLE: {
    status: 422,
    retryable: false,
    meaning: 'The model has no such head.',
  },
  EMB_REPLY_TOO_LARGE: {
    status: 422,
    retryable: false,
    meaning: 'The reply, or the work of scoring, would be over its limit.',
  },
  EMB_QUEUE_FULL: {
    status: 429,
    retryable: true,
    meaning: 'The queue is full; come back after Retry-After.',
  },
  EMB_REQUEST_ABORTED: {
    status: 499,
    retryable: false,
    meaning: 'The caller hung up before the reply.',
  },
  EMB_INTERNAL: {
    status: 500,
    retryable: true,
    meaning: 'A fault of the server; the log has its cause.',
  },
  EMB_TOKENIZER_FAILED: {
    status: 500,
    retryable: true,
    meaning: 'The tokenizer died on these texts.',
  },
  EMB_TOKENIZER_UNSUPPORTED: {
    status: 501,
    retryable: false,
    meaning: 'The tokenizer of this model gives no pieces and offsets.',
  },
  EMB_BACKEND_FAILED: {
    status: 502,
    retryable: true,
    blames: 'batch',
    meaning: 'The backend refused or failed the batch.',
  },
  EMB_OUTPUT_INVALID: {
    status: 502,
    retryable: true,
    blames: 'batch',
    meaning: 'The backend answered something that is no vector.',
  },
  EMB_BACKEND_UNAVAILABLE: {
    status: 503,
    retryable: true,
    repeatElsewhere: true,
    meaning: 'The backend is down or still loading.',
  },
  EMB_SHUTTING_DOWN: {
    status: 503,
    retryable: true,
    meaning: 'The server is draining and takes no new work.',
  },
  EMB_BACKEND_TIMEOUT: {
    status: 504,
    retryable: true,
    repeatElsewhere: true,
    meaning: 'The backend did not answer in time.',
  },
  EMB_DEADLINE_EXCEEDED: {
    status: 504,
    retryable: true,
    meaning: 'The request waited past its deadline.',
  },
} as const satisfies Record<string, CatalogueEntry>;

/** What the catalogue says of a code. */
interface CatalogueEntry {
  /** The HTTP status. */
  readonly status: number;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /**
   * Whether the server may send the same batch to another endpoint at once: the fault lies on the
   * way to the backend, not in the batch. Default: no.
   */
  readonly repeatElsewhere?: boolean;
  /**
   * Whose fault it is: one text's own, or that of some text in a batch, which bisection then
   * finds. Both name the text's field once it is known. Default: neither.
   */
  readonly blames?: 'text' | 'batch';
  /** For the README's table. */
  readonly meaning: string;
}

/** A stable error code, as clients see it. */
export type ErrorCode = keyof typeof ERRORS;

/** What a caller may be told beside the message. */
export interface ErrorDetails {
  /** The field of the request that is wrong, as a path: `query[3]`. */
  readonly field?: string;
  /** The limit that was broken, in the unit that the message names. */
  readonly limit?: number | string;
  /** The value that broke it. Never a text. */
  readonly value?: number | string;
  /** When to come back, in milliseconds. A 429 or 503 that says nothing tells a second. */
  readonly retryAfterMs?: number;
  /** Methods that the route does take, for `EMB_METHOD_NOT_ALLOWED`. */
  readonly allow?: string;
  /** Encodings that a body may have, for `EMB_CONTENT_ENCODING_UNSUPPORTED`. */
  readonly acceptEncoding?: string;
}

/**
 * Something that a caller or a network caused. The message is for the caller: it names the field,
 * the limit and the value. What lies beneath travels as `cause`, to the log and no further.
 */
export class ServerError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, options: ErrorDetails & { cause?: unknown } = {}) {
    const { cause, ...details } = options;
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ServerError';
    this.code = code;
    this.details = details;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  /** Whether the same request may succeed later. */
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }

  /** Whether another endpoint may be given the same batch at once. */
  get mayRepeatElsewhere(): boolean {
    const entry: CatalogueEntry = ERRORS[this.code];
    return entry.repeatElsewhere ?? false;
  }

  /** One text's own, or that of some text in a batch; undefined when no text is to blame. */
  get blames(): 'text' | 'batch' | undefined {
    const entry: CatalogueEntry = ERRORS[this.code];
    return entry.blames;
  }
}

/**
 * A `ServerError` stays as it is; anything else becomes `EMB_INTERNAL`, its words kept from the
 * caller.
 */
export function toServerError(error: unknown): ServerError {
  if (error instanceof ServerError) return error;
  return new ServerError('EMB_INTERNAL', 'The server failed; its log has the cause.', {
    cause: error,
  });
}

/** The backend cannot be asked now. @param why for the log alone. */
export function backendDown(why: string): ServerError {
  return new ServerError('EMB_BACKEND_UNAVAILABLE', ERRORS.EMB_BACKEND_UNAVAILABLE.meaning, {
    cause: new Error(why),
  });
}

/** The server ends. @param cause what that did to the request, if it is known. */
export function shuttingDown(cause?: unknown): ServerError {
  return new ServerError('EMB_SHUTTING_DOWN', 'The server is shutting down.', { cause });
}

/** What only a fault of ours can cause. Its words go to the log, never to a caller. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/**
 * Asserts what the code around it relies on.
 *
 * @throws InvariantError when `condition` is false.
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
