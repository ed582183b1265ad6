import { ServerError } from '../base/errors.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import type { BodyIntake } from './body-intake.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';

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

/** Ids that callers may choose: printable, short, nothing that could break a log line. */
const REQUEST_ID = /^[\w.:/+=-]{1,128}$/;

/** The caller's request id when it is a usable one, otherwise a new one. */
export function requestIdOf(request: Request): string {
  const given = request.headers.get(REQUEST_ID_HEADER);
  return given !== null && REQUEST_ID.test(given) ? given : crypto.randomUUID();
}

/** Header by which a caller says how long it waits, in ms. */
const TIMEOUT_HEADER = 'x-timeout-ms';

/**
 * How long the caller waits, when it says so; the server's own deadline holds all the same.
 *
 * @throws ServerError EMB_FIELD_INVALID unless it is a whole number of at least 1.
 */
export function timeoutOf(request: Request): number | undefined {
  const raw = request.headers.get(TIMEOUT_HEADER);
  if (raw === null) return undefined;
  const timeoutMs = Number(raw);
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 1) return timeoutMs;
  const message = `${TIMEOUT_HEADER} must be a whole number of ms, at least 1.`;
  const details = { field: TIMEOUT_HEADER, limit: 1, value: raw.slice(0, 32) };
  throw new ServerError('EMB_FIELD_INVALID', message, details);
}

/** What bounds a body: its own size, and what all bodies together may take. */
export interface BodyLimits {
  readonly bodyBytesMax: number;
  readonly bodyIntake: BodyIntake;
}

/**
 * Reads and decodes a request body by its Content-Type; one that is missing means JSON.
 *
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_MALFORMED, or as `BodyIntake`.
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<unknown> {
  const decode = decoderFor(request.headers.get('content-type'));
  return await limits.bodyIntake.read(request, limits.bodyBytesMax, decode);
}

function decoderFor(contentType: string | null): (body: Uint8Array) => unknown {
  if (contentType === null || contentType === 'application/json') return decodeJsonBody;
  const [media, ...parameters] = contentType.toLowerCase().split(';');
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='));
  const isUtf8 = charset === undefined || /^\s*charset="?utf-?8"?\s*$/.test(charset);
  if (isUtf8) {
    if (JSON_TYPES.has(media.trim())) return decodeJsonBody;
    if (MSGPACK_TYPES.has(media.trim())) return decodeMsgpackBody;
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
