import { ServerError } from '../base/errors.ts';
import { shortened } from '../base/shortened.ts';
import { decodeJsonBody } from '../reply/decode-json.ts';
import { decodeMsgpackBody } from '../reply/decode-msgpack.ts';
import {
  JSON_BASE64_FORMAT,
  JSON_FORMAT,
  REPLY_DTYPES,
  type ReplyDtype,
  type ReplyFormat,
} from '../reply/reply-content.ts';
import { QUANTIZED } from '../vectors/quantize.ts';
import type { BodyDecoder, BodyIntake } from './body-intake.ts';
import { REQUEST_ID_HEADER } from './error-reply.ts';
import { invalidWord } from './fields.ts';

/** What a request says outside of its fields: path, id, patience, the reply's format, the body. */

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
  if (/^\d+$/.test(raw) && Number.isSafeInteger(ms) && ms >= 1) return ms;
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

const MSGPACK_FORMAT: ReplyFormat = { kind: 'msgpack', layout: 'plain', dtype: 'float32' };
const NUMPY_FORMAT: ReplyFormat = { kind: 'msgpack', layout: 'numpy', dtype: 'float32' };
const RAW_FORMAT: ReplyFormat = { kind: 'raw', dtype: 'float32' };

/** What a wildcard may stand for, our first choice first. */
const OWN_FORMATS = [JSON_FORMAT, MSGPACK_FORMAT, RAW_FORMAT];

const KNOWN =
  'application/json (encoding=base64), application/msgpack (layout=numpy, dtype=float16) and ' +
  `application/octet-stream (dtype=float16); dtype may also be ${QUANTIZED.join(', ')}`;

/**
 * The message shows no more of a strange header than this; the longest header that we know has 135
 * characters (Firefox).
 */
const SHOWN_CHARS_MAX = 160;

/**
 * Chooses the reply's format from an `Accept` header (RFC 9110, 12.5.1). A format has the weight q
 * of the most specific range that matches it, and the highest q wins. Among equal weights a named
 * format wins over a wildcard, then the earlier one. A wildcard means the first of JSON, msgpack
 * and raw bytes that is not named beside it.
 *
 * @throws ServerError `EMB_ACCEPT_UNSUPPORTED` when no range names a format that we know.
 */
export function negotiateFormat(accept: string | null): ReplyFormat {
  // What nearly every caller sends, without parsing.
  switch (accept) {
    case null:
    case '':
    case '*/*':
    case 'application/json':
    case 'application/json, text/plain, */*':
      return JSON_FORMAT;
    case 'application/msgpack':
      return MSGPACK_FORMAT;
    case 'application/msgpack; layout=numpy':
      return NUMPY_FORMAT;
    case 'application/octet-stream':
      return RAW_FORMAT;
    default:
      return negotiateRanges(accept);
  }
}

interface MediaRange {
  /** Type and subtype in lower case: `application/json`, `application/*`. */
  readonly type: string;
  /** Parameters other than q; names in lower case, values unquoted and in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly quality: number;
}

function negotiateRanges(accept: string): ReplyFormat {
  const ranges = splitOutsideQuotes(accept, ',').flatMap((part) => parseRange(part) ?? []);
  const named = ranges.flatMap((range) => {
    const format = formatOf(range);
    return format === undefined ? [] : { format, quality: range.quality };
  });
  // All formats are of type application: beside `application/*` the range `*/*` says nothing.
  const wildcard = lastOf(ranges, 'application/*') ?? lastOf(ranges, '*/*');
  const unnamed = OWN_FORMATS.find(
    (own) => !named.some(({ format }) => Bun.deepEquals(format, own)),
  );
  if (wildcard !== undefined && unnamed !== undefined) {
    named.push({ format: unnamed, quality: wildcard.quality });
  }
  let best: (typeof named)[number] | undefined;
  for (const choice of named) if (choice.quality > (best?.quality ?? 0)) best = choice;
  if (best !== undefined) return best.format;
  const shown = accept.length > SHOWN_CHARS_MAX ? `${accept.slice(0, SHOWN_CHARS_MAX)}…` : accept;
  throw new ServerError(
    'EMB_ACCEPT_UNSUPPORTED',
    `accept: none of its formats is known ('${shown}'); known are ${KNOWN}.`,
    { field: 'accept', value: shown },
  );
}

/**
 * The format that a range names, or nothing when it is a wildcard or names none of ours. Unknown
 * parameters are ignored.
 */
function formatOf(range: MediaRange): ReplyFormat | undefined {
  switch (range.type) {
    case 'application/json':
      return jsonFormat(range.parameters.get('encoding'));
    case 'application/msgpack':
    case 'application/x-msgpack':
    case 'application/vnd.msgpack': {
      const layout = range.parameters.get('layout') ?? 'plain';
      const dtype = parseDtype(range.parameters.get('dtype'));
      if (dtype === undefined || (layout !== 'plain' && layout !== 'numpy')) return undefined;
      return { kind: 'msgpack', layout, dtype };
    }
    case 'application/octet-stream': {
      const dtype = parseDtype(range.parameters.get('dtype'));
      return dtype === undefined ? undefined : { kind: 'raw', dtype };
    }
    default:
      return undefined;
  }
}

function jsonFormat(encoding = 'float'): ReplyFormat | undefined {
  if (encoding === 'float') return JSON_FORMAT;
  return encoding === 'base64' ? JSON_BASE64_FORMAT : undefined;
}

function parseDtype(dtype = 'float32'): ReplyDtype | undefined {
  return REPLY_DTYPES.find((known) => known === dtype);
}

function lastOf(ranges: readonly MediaRange[], type: string): MediaRange | undefined {
  return ranges.findLast((range) => range.type === type);
}

function parseRange(part: string): MediaRange | undefined {
  const [type = '', ...pairs] = splitOutsideQuotes(part, ';');
  if (type.trim() === '') return undefined;
  const parameters = new Map<string, string>();
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    if (equals < 0) continue;
    const value = pair.slice(equals + 1).trim();
    const unquoted = value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, '$1') : value;
    parameters.set(pair.slice(0, equals).trim().toLowerCase(), unquoted.toLowerCase());
  }
  const quality = parseQuality(parameters.get('q'));
  parameters.delete('q');
  return { type: type.trim().toLowerCase(), parameters, quality };
}

/**
 * An invalid q counts as absent: the header is advice, and its sender asked for the format.
 */
function parseQuality(q = '1'): number {
  return /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(q) ? Number(q) : 1;
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  if (!text.includes('"')) return text.split(separator);
  const parts: string[] = [];
  let quoted = false;
  let start = 0;
  for (let index = 0; index < text.length; index++) {
    const char = text[index];
    if (char === '\\' && quoted) index++;
    else if (char === '"') quoted = !quoted;
    else if (char === separator && !quoted) {
      parts.push(text.slice(start, index));
      start = index + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** What bounds a body: its own size, what all bodies together may take, how long it may wait. */
export interface BodyLimits {
  readonly bodyBytesMax: number;
  readonly bodyIntake: BodyIntake;
  readonly queueHoldMs: number;
}

/**
 * Reads and decodes a request body by its Content-Type; one that is missing or empty means JSON.
 *
 * @param isJsonUnlessTold a type that is not known means JSON, too.
 * @throws ServerError EMB_CONTENT_TYPE_UNSUPPORTED, EMB_BODY_MALFORMED, or as `BodyIntake`.
 */
export function readBody(
  request: Request,
  limits: BodyLimits,
  isJsonUnlessTold = false,
): Promise<unknown> {
  const { bodyBytesMax, bodyIntake, queueHoldMs } = limits;
  const said = request.headers.get('content-type');
  const decoder = decoderOf(said) ?? (isJsonUnlessTold ? JSON_BODY : undefined);
  if (decoder === undefined) throw unknownType(said ?? '');
  // As before a full queue: half of what the caller waits is for the work.
  const waitMs = (): number => Math.min(queueHoldMs, (timeoutOf(request) ?? 2 * queueHoldMs) / 2);
  return bodyIntake.read(request, { bodyBytesMax, waitMs }, decoder);
}

/**
 * Measured on bodies of 30 MB: the body, a string of it, and the texts. Both of these have two
 * bytes a letter where a single one is not Latin.
 */
const JSON_BODY: BodyDecoder<unknown> = { decode: decodeJsonBody, costPerByte: 5 };

/** The same, without a string of the body. */
const MSGPACK_BODY: BodyDecoder<unknown> = { decode: decodeMsgpackBody, costPerByte: 3 };

/** Undefined for a type that is not known. A header that came twice has both, with a comma. */
function decoderOf(contentType: string | null): BodyDecoder<unknown> | undefined {
  if (contentType === null || contentType === 'application/json') return JSON_BODY;
  const types = splitOutsideQuotes(contentType.toLowerCase(), ',').map((type) => type.trim());
  if (types.every((type) => type === '' || isOfType(type, JSON_TYPES))) return JSON_BODY;
  return types.every((type) => isOfType(type, MSGPACK_TYPES)) ? MSGPACK_BODY : undefined;
}

function isOfType(type: string, known: ReadonlySet<string>): boolean {
  const [media = '', ...parameters] = type.split(';');
  const charset = parameters.find((parameter) => parameter.trim().startsWith('charset='));
  const isUtf8 = charset === undefined || /^\s*charset="?utf-?8"?\s*$/.test(charset);
  return isUtf8 && known.has(media.trim());
}

function unknownType(contentType: string): ServerError {
  const value = contentType.slice(0, 100);
  const message = `Content-Type "${value}" is not known; send application/json (UTF-8) or application/msgpack.`;
  const limit = 'application/json, application/msgpack';
  return new ServerError('EMB_CONTENT_TYPE_UNSUPPORTED', message, {
    field: 'content-type',
    limit,
    value,
  });
}

const JSON_TYPES: ReadonlySet<string> = new Set(['application/json', 'text/json']);
const MSGPACK_TYPES: ReadonlySet<string> = new Set([
  'application/msgpack',
  'application/x-msgpack',
  'application/vnd.msgpack',
]);
