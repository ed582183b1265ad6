import { APIEncoderError } from './api-encoder-error.ts';
import { type ClientClock, portableClock } from './cancellation.ts';
import { type Head, QUANTIZED_TYPES, type QuantizedType } from './read-encode-reply.ts';
import { ServerSpread } from './server-spread.ts';
import { checkText, type SplitLimits } from './split-texts.ts';
import type { Fetch, TransportOptions } from './transport.ts';

/** How texts are to be encoded; given to the constructor for all calls, or to a call for itself. */
export interface TextOptions {
  /** Cut texts that are too long (true), or refuse them (false). Left out: as the server is set. */
  readonly truncate?: boolean | undefined;
  /**
   * Which of the model's prefixes stands in front of the texts; BGE-M3 has none. Left out: `query`.
   */
  readonly inputType?: 'query' | 'passage' | undefined;
  /**
   * At most this many texts of a request in one batch of the server's backend. Left out: as the
   * backend likes.
   */
  readonly batchSize?: number | undefined;
  /**
   * `background` lets the texts wait for those of everybody else, as a job's should. Left out:
   * `foreground`.
   */
  readonly priority?: 'foreground' | 'background' | undefined;
}

/** How long a call may take. */
export interface TimeoutOptions {
  /**
   * One try of one request, in ms. Default 65,000: longer than the server's own deadline. The
   * server is told of a twentieth less, at most 2 s, so that it ends the request itself.
   */
  readonly timeoutMs?: number | undefined;
  /**
   * The whole call with all its requests, tries and waits, in ms. Default 3,600,000. A stream may
   * go on for ever: there it is one request with its tries and waits.
   */
  readonly totalTimeoutMs?: number | undefined;
}

/** What `new APIEncoder` takes beside the address. */
export interface APIEncoderOptions extends TextOptions, TimeoutOptions {
  /** Sent as `Authorization: Bearer …`. */
  readonly apiKey?: string | undefined;
  /** Sent with every request. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Texts in one request, at most. Default 64; the server's own limit is 2,048 unless set
   * otherwise.
   */
  readonly requestTextsMax?: number | undefined;
  /**
   * Characters (UTF-16 units) of all texts in one request, at most; a longer text rides alone.
   * Default 65,536, and 8,192 where multi-vectors are asked for.
   */
  readonly requestCharactersMax?: number | undefined;
  /** Requests of one call at the same time. Default 8. */
  readonly concurrency?: number | undefined;
  /** Further tries after a failure that may pass, for each server. Default 5. */
  readonly retriesMax?: number | undefined;
  /** Wait before the first further try, in ms; it doubles with each. Default 500. */
  readonly retryDelayMs?: number | undefined;
  /** Longest wait between tries, in ms, unless the server asks for more. Default 8,000. */
  readonly retryDelayMsMax?: number | undefined;
  /**
   * Sends a request a second time when it has had no reply for so long, in ms, and takes the first.
   * Left out: never.
   */
  readonly hedgeAfterMs?: number | undefined;
  /** In place of the global `fetch`. */
  readonly fetch?: Fetch | undefined;
  /** In place of the machine's time. */
  readonly clock?: ClientClock | undefined;
  /** In place of `Math.random`, for the jitter. */
  readonly random?: (() => number) | undefined;
}

/** What any call takes. */
export interface CallOptions extends TimeoutOptions {
  /**
   * Ends the call, and on the server what it still waits for. The call rejects with the signal's
   * reason.
   */
  readonly signal?: AbortSignal | undefined;
}

/** What calls that encode take. */
export interface EncodeOptions extends CallOptions, TextOptions {
  /** Called after each request that has succeeded; what it throws ends the call. */
  readonly onProgress?: ((progress: EncodeProgress) => void) | undefined;
}

/** What calls for several heads take. */
export interface EncodeHeadsOptions extends EncodeOptions {
  /** Which heads to compute. Default: all that the model has. */
  readonly outputs?: readonly Head[] | undefined;
}

/** Texts one after the other; an array, a generator, the lines of a file. */
export type TextSource = AsyncIterable<string> | Iterable<string>;

/** How far a call has come. */
export interface EncodeProgress {
  /** Texts whose vectors have arrived. */
  readonly textCountDone: number;
  /** Texts of the call; undefined for a source that nobody has counted: any but an array. */
  readonly textCount: number | undefined;
  /** Time since the call began, in ms. */
  readonly elapsedMs: number;
}

/** All options, checked, with their defaults. */
export interface ResolvedOptions extends TransportOptions {
  readonly headers: Readonly<Record<string, string>>;
  readonly limits: SplitLimits;
  /** Limits of a request for multi-vectors. */
  readonly multiVectorLimits: SplitLimits;
  readonly concurrency: number;
  readonly totalTimeoutMs: number;
  readonly texts: TextOptions;
}

/** The longest that `setTimeout` waits, in ms; with more it fires at once. */
const DELAY_MS_MAX = 2 ** 31 - 1;

/** By which the server tells texts of a job from those of people. */
export const PRIORITY_HEADER = 'x-priority';

/** Bounds of counts that only have to be sane. */
const COUNT_MAX = 1_000_000;

/** What a client takes, by name. */
const CLIENT_OPTIONS = {
  ...{ truncate: true, inputType: true, batchSize: true, priority: true },
  ...{ timeoutMs: true, totalTimeoutMs: true, apiKey: true, headers: true },
  ...{ requestTextsMax: true, requestCharactersMax: true, concurrency: true },
  ...{ retriesMax: true, retryDelayMs: true, retryDelayMsMax: true, hedgeAfterMs: true },
  ...{ fetch: true, clock: true, random: true },
} satisfies Record<keyof APIEncoderOptions, true>;

/**
 * A mistyped option would have its default, and the caller other vectors than were asked for. The
 * compiler sees it in TypeScript alone.
 *
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID.
 */
export function refuseUnknownOptions(options: object, knownOptions: object, of: string): void {
  if (typeof options !== 'object' || options === null) {
    throw invalid('options', `of a ${of} must be an object, not ${String(options).slice(0, 32)}`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || Object.hasOwn(knownOptions, name)) continue;
    const known = Object.keys(knownOptions);
    const plain = plainName(name);
    const meant = known.find((one) => plainName(one) === plain);
    const advice = meant === undefined ? `known are ${known.join(', ')}` : `${meant} is one`;
    throw invalid(name.slice(0, 32), `is no option of a ${of}: ${advice}`);
  }
}

/** The same for `input_type`, `inputtype` and `inputType`. */
function plainName(name: string): string {
  return name.replace(/[_-]/g, '').toLowerCase();
}

/** @throws APIEncoderError CLIENT_ARGUMENT_INVALID that names the option. */
export function resolveOptions(
  baseUrl: string | readonly string[],
  options: APIEncoderOptions,
): ResolvedOptions {
  refuseUnknownOptions(options, CLIENT_OPTIONS, 'client');
  const { apiKey, fetch, clock, random, hedgeAfterMs, truncate, inputType, batchSize } = options;
  const whole = (field: keyof APIEncoderOptions, fallback: number, min: number, max: number) =>
    checkInteger({ field, value: options[field] ?? fallback, min, max });
  const requestTextsMax = whole('requestTextsMax', 64, 1, COUNT_MAX);
  const limitsOf = (charactersMax: number): SplitLimits => ({
    requestTextsMax,
    requestCharactersMax: whole('requestCharactersMax', charactersMax, 1, DELAY_MS_MAX),
  });
  const duration = (field: keyof APIEncoderOptions, fallback: number, min = 1) =>
    whole(field, fallback, min, DELAY_MS_MAX);
  return {
    servers: new ServerSpread(checkBaseUrls(baseUrl), () => (clock ?? portableClock).now()),
    headers: checkHeaders(options.headers, { apiKey, priority: options.priority }),
    // A few batches' worth: 8 requests of 64 keep a GPU fed, and one request stays well inside the
    // server's deadline on a CPU.
    limits: limitsOf(65_536),
    // A row for each token: at 1,024 dimensions a character can cost 4 kB, so this is 32 MB, an
    // eighth of the server's limit of a reply.
    multiVectorLimits: limitsOf(8192),
    concurrency: whole('concurrency', 8, 1, COUNT_MAX),
    ...checkTimeouts(options, { timeoutMs: 65_000, totalTimeoutMs: 3_600_000 }),
    // 0.5 s doubling to 8 s, as the OpenAI client waits; five of them see a server through a
    // restart.
    retriesMax: whole('retriesMax', 5, 0, COUNT_MAX),
    retryDelayMs: duration('retryDelayMs', 500, 0),
    retryDelayMsMax: duration('retryDelayMsMax', 8000, 0),
    hedgeAfterMs: hedgeAfterMs === undefined ? undefined : duration('hedgeAfterMs', 0),
    // Looked up when it is called, so that whoever replaces the global one is heard.
    fetch: fetch ?? ((url, init) => globalThis.fetch(url, init)),
    clock: clock ?? portableClock,
    random: random ?? Math.random,
    texts: { truncate, inputType, batchSize },
  };
}

/** @throws APIEncoderError CLIENT_ARGUMENT_INVALID. */
export function checkTimeouts(
  { timeoutMs, totalTimeoutMs }: TimeoutOptions,
  fallback: { timeoutMs: number; totalTimeoutMs: number },
): { timeoutMs: number; totalTimeoutMs: number } {
  const check = (field: string, value: unknown): number =>
    checkInteger({ field, value, min: 1, max: DELAY_MS_MAX });
  return {
    timeoutMs: check('timeoutMs', timeoutMs ?? fallback.timeoutMs),
    totalTimeoutMs: check('totalTimeoutMs', totalTimeoutMs ?? fallback.totalTimeoutMs),
  };
}

function checkInteger(given: { field: string; value: unknown; min: number; max: number }): number {
  const { field, value, min, max } = given;
  const isInside =
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
  if (isInside) return value;
  throw invalid(
    field,
    `must be a whole number from ${min} to ${max}, not ${String(value).slice(0, 32)}`,
  );
}

/** Each once. @throws APIEncoderError CLIENT_ARGUMENT_INVALID. */
function checkBaseUrls(baseUrl: string | readonly string[]): string[] {
  const given = typeof baseUrl === 'string' ? [baseUrl] : baseUrl;
  const isSome = Array.isArray(given) && given.length > 0;
  if (!isSome) throw invalid('baseUrl', 'must be an address, or an array of at least one');
  return [...new Set(given.map(checkBaseUrl))];
}

/** Without a slash at the end. A path in front of the routes is kept. */
function checkBaseUrl(baseUrl: string): string {
  let url: URL | undefined;
  try {
    url = new URL(baseUrl);
  } catch {
    // Said below, with the other things that are wrong with addresses.
  }
  if (url !== undefined && /^https?:$/.test(url.protocol)) {
    const { origin, pathname, username, password, search, hash } = url;
    // A lone `?` or `#` is in none of them.
    if (username + password + search + hash === '') return (origin + pathname).replace(/\/+$/, '');
  }
  const wanted = 'must be like http://localhost:8080, without user name, query and fragment';
  // What may hold a password or a key is not shown.
  const came = String(baseUrl);
  const isShown = !/[@?#]/.test(came);
  throw invalid('baseUrl', isShown ? `${wanted}, not "${came.slice(0, 100)}"` : wanted);
}

/**
 * Header names in lower case, so that none is sent twice. What `fetch` would not send is refused
 * here, at the start.
 */
function checkHeaders(
  headers: APIEncoderOptions['headers'],
  { apiKey, priority }: Pick<APIEncoderOptions, 'apiKey' | 'priority'>,
): Record<string, string> {
  try {
    const checked = new Headers(headers);
    if (apiKey !== undefined) checked.set('authorization', `Bearer ${apiKey}`);
    if (priority !== undefined) checked.set(PRIORITY_HEADER, priority);
    return Object.fromEntries(checked);
  } catch (cause) {
    throw invalid('headers', 'or apiKey has characters that no header may have', cause);
  }
}

function invalid(field: string, problem: string, cause?: unknown): APIEncoderError {
  return new APIEncoderError('CLIENT_ARGUMENT_INVALID', `${field} ${problem}.`, { field, cause });
}

/** Every head that a model may have. */
export const ALL_HEADS: readonly Head[] = ['dense', 'sparse', 'multi_vector'];

/**
 * The texts as an array, all looked at before the first is sent.
 *
 * @throws APIEncoderError of `checkText`.
 */
export function listOf(texts: string | readonly string[]): readonly string[] {
  if (Array.isArray(texts)) {
    for (let index = 0; index < texts.length; index++) checkText(texts[index], `texts[${index}]`);
    return texts;
  }
  checkText(texts, 'text');
  return [texts];
}

/**
 * Texts of which there must be one, all looked at before the first is sent.
 *
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID, or of `checkText`.
 */
export function someOf(texts: readonly string[]): readonly string[] {
  if (Array.isArray(texts) && texts.length > 0) return listOf(texts);
  const message = 'texts must be an array of at least one string.';
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'texts' });
}

/**
 * A string is iterable too, by characters, which nobody means.
 *
 * @throws APIEncoderError CLIENT_ARGUMENT_INVALID.
 */
export function sourceOf(texts: TextSource): TextSource {
  const isSource =
    typeof texts === 'object' &&
    texts !== null &&
    (Symbol.asyncIterator in texts || Symbol.iterator in texts);
  if (isSource) return texts;
  const message =
    'texts must be an iterable or async iterable of strings; for one text use encode.';
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'texts' });
}

/** @throws APIEncoderError CLIENT_ARGUMENT_INVALID unless they name heads that there are. */
export function headsOf(outputs: readonly Head[]): readonly Head[] {
  const unknown: unknown = Array.isArray(outputs)
    ? outputs.find((head) => !ALL_HEADS.includes(head))
    : outputs;
  if (unknown === undefined && outputs.length > 0) return outputs;
  const said = unknown === undefined ? 'none' : `"${String(unknown).slice(0, 32)}"`;
  const message = `outputs must be an array of one or more of ${ALL_HEADS.join(', ')}, not ${said}.`;
  throw new APIEncoderError('CLIENT_ARGUMENT_INVALID', message, { field: 'outputs' });
}

/** @throws APIEncoderError CLIENT_ARGUMENT_INVALID unless it is a type that there is. */
export function checkQuantized(type: QuantizedType): QuantizedType {
  if (QUANTIZED_TYPES.includes(type)) return type;
  throw invalid(
    'type',
    `must be one of ${QUANTIZED_TYPES.join(', ')}, not ${String(type).slice(0, 32)}`,
  );
}
