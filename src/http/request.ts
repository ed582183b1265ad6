import { ServerError } from '../base/errors.ts';
import { shortened } from '../base/shortened.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import type { BodyDecoder, BodyIntake } from './body-intake.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';
import { invalidWord } from './fields.ts';

/** What a request says outside of its fields: path, id, patience, and the body as it came. */

/**
 * The path that a request asks for, as the router reads it: up to the query, undecoded. Never
 * throws: where Host is missing or no name, Bun leaves the path alone as the URL, and elsewhere
 * lets pass what `new URL` does not take.
 */
export function pathOf({ url }: Request): string {
  const start = url.startsWith('/') ? 0 : url.indexOf('/', url.indexOf('://') + 3);
  const end = url.indexOf('?', start + 1);
  return end < 0 ? url.slice(start) : url.slice(start, end);
}

/** The segments of a path, decoded. What is no UTF-8 stays as it came. */
export function segmentsOf(request: Request): readonly string[] {
  return pathOf(request)
    .slice(1)
    .split('/')
    .map((segment) => {
      try {
        return decodeURIComponent(segment);
      } catch {
        return segment;
      }
    });
}

/** Ids that callers may choose: printable, short, nothing that could break a log line. */
const REQUEST_ID = /^[\w.:/+=-]{1,128}$/;

/** The caller's request id when it is a usable one, otherwise a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get(REQUEST_ID_HEADER);
  return given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/** Headers by which a caller says how long it waits, in ms. The second is Baseten's. */
const TIMEOUT_HEADERS = ['x-timeout-ms', 'request-timeout-ms'] as const;

/** Baseten's: when the caller stops waiting, in ms since 1970. Both clocks must be right. */
const DEADLINE_HEADER = 'request-deadline-ms';

/**
 * How long the caller waits, when it says so; the shortest where it says so more than once. The
 * server's own deadline holds all the same.
 *
 * @param nowMs since 1970.
 * @throws ServerError EMB_FIELD_INVALID unless each is a whole number of at least 1;
 * EMB_DEADLINE_EXCEEDED for a deadline that has passed.
 */
export function timeoutOf({ headers }: Request, nowMs = Date.now()): number | undefined {
  let timeoutMs: number | undefined;
  for (const name of TIMEOUT_HEADERS) {
    const ms = millisecondsIn(headers, name);
    if (ms !== undefined) timeoutMs = Math.min(ms, timeoutMs ?? ms);
  }
  const deadlineMs = millisecondsIn(headers, DEADLINE_HEADER);
  if (deadlineMs === undefined) return timeoutMs;
  const leftMs = Math.ceil(deadlineMs - nowMs);
  if (leftMs >= 1) return Math.min(leftMs, timeoutMs ?? leftMs);
  const message = `${DEADLINE_HEADER} was ${-leftMs} ms ago by this server's clock.`;
  throw new ServerError('EMB_DEADLINE_EXCEEDED', message, { field: DEADLINE_HEADER });
}

function millisecondsIn(headers: Headers, name: string): number | undefined {
  const raw = headers.get(name);
  if (raw === null) return undefined;
  const ms = Number(raw);
  if (Number.isSafeInteger(ms) && ms >= 1) return ms;
  const message = `${name} must be a whole number of ms, at least 1, not "${shortened(raw)}".`;
  throw new ServerError('EMB_FIELD_INVALID', message, {
    field: name,
    limit: 1,
    value: shortened(raw),
  });
}

/** Header by which a caller says that its texts wait for those of all others. */
const PRIORITY_HEADER = 'x-priority';

const PRIORITIES = ['foreground', 'background'] as const;

/** The same for the OpenAPI document. */
export const PRIORITY_PARAMETER = {
  name: PRIORITY_HEADER,
  in: 'header' as const,
  description:
    'background: the texts wait for those of all others and fill what is left. They are admitted ' +
    'apart, so that they can be refused while others are not. Where no text goes to the model, ' +
    'nothing waits.',
  required: false,
  schema: { type: 'string' as const, enum: [...PRIORITIES], default: PRIORITIES[0] },
};

/**
 * Whether the texts of a request are background: a job's, for which nobody waits at a screen.
 *
 * @throws ServerError EMB_FIELD_INVALID for a word that is not known: a job with a mistyped one
 * would go before people.
 */
export function isBackgroundRequest({ headers }: Request): boolean {
  const priority = headers.get(PRIORITY_HEADER);
  if (priority === null || priority === PRIORITIES[0]) return false;
  if (priority === PRIORITIES[1]) return true;
  throw invalidWord(PRIORITY_HEADER, `one of ${PRIORITIES.join(', ')}`, priority);
}

/** What bounds a body: its own size, what all bodies together may take, how long it may wait. */
export interface BodyLimits {
  readonly bodyBytesMax: number;
  readonly bodyIntake: BodyIntake;
  readonly queueHoldMs: number;
}

/**
 * Reads and decodes a request body by its Content-Type; one that is missing means JSON.
 *
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_MALFORMED, or as `BodyIntake`.
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<unknown> {
  const { bodyBytesMax, bodyIntake, queueHoldMs } = limits;
  const decoder = decoderFor(request.headers.get('content-type'));
  // As before a full queue: half of what the caller waits is for the work.
  const waitMs = (): number => Math.min(queueHoldMs, (timeoutOf(request) ?? 2 * queueHoldMs) / 2);
  return await bodyIntake.read(request, { bodyBytesMax, waitMs }, decoder);
}

/**
 * Measured on bodies of 30 MB: the body, a string of it, and the texts. Both of these have two
 * bytes a letter where a single one is not Latin.
 */
const JSON_BODY: BodyDecoder<unknown> = { decode: decodeJsonBody, costPerByte: 5 };

/** The same, without a string of the body. */
const MSGPACK_BODY: BodyDecoder<unknown> = { decode: decodeMsgpackBody, costPerByte: 3 };

function decoderFor(contentType: string | null): BodyDecoder<unknown> {
  if (contentType === null || contentType === 'application/json') return JSON_BODY;
  const [media, ...parameters] = contentType.toLowerCase().split(';');
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='));
  const isUtf8 = charset === undefined || /^\s*charset="?utf-?8"?\s*$/.test(charset);
  if (isUtf8) {
    if (JSON_TYPES.has(media.trim())) return JSON_BODY;
    if (MSGPACK_TYPES.has(media.trim())) return MSGPACK_BODY;
  }
  throw new ServerError(
    'EMB_CONTENT_TYPE_UNSUPPORTED',
    `Content-Type "${contentType.slice(0, 100)}" is not known; send application/json (UTF-8) or application/msgpack.`,
    {
      field: 'content-type',
      limit: 'application/json, application/msgpack',
      value: contentType.slice(0, 100),
    },
  );
}

const JSON_TYPES: ReadonlySet<string> = new Set(['application/json', 'text/json']);
const MSGPACK_TYPES: ReadonlySet<string> = new Set([
  'application/msgpack',
  'application/x-msgpack',
  'application/vnd.msgpack',
]);
