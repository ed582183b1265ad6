import { ServerError } from '../base/errors.ts';
import { QUANTIZED } from '../vectors/quantize.ts';

/** How the components of dense rows may be sent in a binary reply. */
const DTYPES = ['float32', 'float16', ...QUANTIZED] as const;

/** One of them. */
export type ReplyDtype = (typeof DTYPES)[number];

/**
 * The form of a reply, as negotiated. `encoding` says how JSON carries the vectors: as numbers, or
 * as base64 strings.
 */
export type ReplyFormat =
  | { readonly kind: 'json'; readonly encoding: 'float' | 'base64' }
  | { readonly kind: 'msgpack'; readonly layout: 'plain' | 'numpy'; readonly dtype: ReplyDtype }
  | { readonly kind: 'raw'; readonly dtype: ReplyDtype };

/** What a caller gets who asks for nothing in particular. */
export const JSON_FORMAT: ReplyFormat = { kind: 'json', encoding: 'float' };

/** JSON whose vectors are base64 of little-endian float32. */
export const JSON_BASE64_FORMAT: ReplyFormat = { kind: 'json', encoding: 'base64' };

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
  return DTYPES.find((known) => known === dtype);
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
