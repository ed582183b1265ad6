import { maskCredentials } from '../../base/url-credentials.ts';

/** What went wrong with a download; the message says it in one line, with the way out. */
export type HubErrorCode =
  | 'HUB_UNREACHABLE'
  | 'HUB_REFUSED'
  | 'HUB_FILE_UNKNOWN'
  | 'HUB_ANSWER_INVALID'
  | 'HUB_FILE_HASH'
  | 'HUB_DISK_FULL';

/**
 * A file that the hub does not give, or gives wrongly. Raised at set-up, never for a caller of the
 * server.
 */
export class HubError extends Error {
  override readonly name = 'HubError';
  readonly code: HubErrorCode;
  /** Trying the same again may help. */
  readonly retryable: boolean;
  /** How long the hub asks us to wait, when it does. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: HubErrorCode,
    message: string,
    options: { retryable?: boolean; retryAfterMs?: number | undefined; cause?: unknown } = {},
  ) {
    super(
      maskCredentials(message),
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** One file of one pinned revision. */
export interface HubPlace {
  /** The hub's address, `https://host` with or without a path and a closing slash. */
  readonly hub: string;
  /** `owner/name`. */
  readonly repository: string;
  /** A full commit id. */
  readonly revision: string;
  /** Relative to the repository. */
  readonly path: string;
}

/**
 * How the hub identifies a file's content: sha256 of large files, git's blob sha1 of small ones.
 */
export interface HubHash {
  readonly algorithm: 'sha256' | 'git-sha1';
  readonly hex: string;
}

/** The hub's answer when it gives bytes. */
export interface HubAnswer {
  /** Where in the file the body starts: what was asked for, or zero when the hub ignores ranges. */
  readonly start: number;
  /** Bytes of the whole file, or null when the hub does not say. */
  readonly byteCount: number | null;
  /** Null when the hub names no hash that we know. */
  readonly hash: HubHash | null;
  readonly body: ReadableStream<Uint8Array>;
}

/** Published hubs redirect once or twice. */
const REDIRECTS_MAX = 5;

/** What the hub makes of a revision and a path. */
export function hubUrl(place: HubPlace): string {
  const path = place.path.split('/').map(encodeURIComponent).join('/');
  const hub = place.hub.replace(/\/+$/, '');
  return `${hub}/${place.repository}/resolve/${place.revision}/${path}`;
}

/**
 * Asks for a file from byte `start` on, following redirects by hand: the hash stands in the hub's
 * own answer, the bytes come from wherever it points.
 *
 * @returns null when the hub says that there is nothing from `start` on.
 * @throws HubError
 */
export async function requestHubFile(
  place: HubPlace,
  start: number,
  signal: AbortSignal,
): Promise<HubAnswer | null> {
  let url = new URL(hubUrl(place));
  let hash: HubHash | null = null;
  for (let hop = 0; hop <= REDIRECTS_MAX; hop += 1) {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (start > 0) headers.range = `bytes=${start}-`;
    const response = await send(url, { headers, redirect: 'manual', signal });
    checkRevision(response, place);
    hash ??= hashOf(response);
    const location = response.headers.get('location');
    if (response.status >= 300 && response.status < 400 && location !== null) {
      await response.body?.cancel();
      url = redirected(url, location);
      continue;
    }
    if (response.status === 416) {
      await response.body?.cancel();
      return null;
    }
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel();
      throw refusal(response, place);
    }
    return { ...placeOfBody(response, start), hash, body: bodyOf(response) };
  }
  throw new HubError('HUB_ANSWER_INVALID', `${hubUrl(place)} redirects without an end.`);
}

async function send(url: URL, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new HubError('HUB_UNREACHABLE', `${url.origin} cannot be reached: ${reason}`, {
      retryable: true,
      cause,
    });
  }
}

function redirected(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  const isSafe =
    to?.protocol === 'https:' || (to?.protocol === 'http:' && from.protocol === 'http:');
  if (to && isSafe) return to;
  throw new HubError(
    'HUB_ANSWER_INVALID',
    `${from.origin} redirects to ${location}: not followed.`,
  );
}

/** A mirror that serves another commit under the pinned name must not go unnoticed. */
function checkRevision(response: Response, place: HubPlace): void {
  const commit = response.headers.get('x-repo-commit');
  if (commit === null || commit === place.revision) return;
  throw new HubError(
    'HUB_ANSWER_INVALID',
    `${hubUrl(place)} is of commit ${commit}, expected ${place.revision}.`,
  );
}

function hashOf(response: Response): HubHash | null {
  const tag = response.headers.get('x-linked-etag') ?? response.headers.get('etag') ?? '';
  const hex = tag.replace(/^W\//, '').replaceAll('"', '').toLowerCase();
  if (/^[0-9a-f]{64}$/.test(hex)) return { algorithm: 'sha256', hex };
  if (/^[0-9a-f]{40}$/.test(hex)) return { algorithm: 'git-sha1', hex };
  return null;
}

function placeOfBody(response: Response, start: number) {
  const length = response.headers.get('content-length');
  if (response.status === 200) {
    return { start: 0, byteCount: length === null ? null : Number(length) };
  }
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get('content-range') ?? '');
  if (range === null || Number(range[1]) !== start) {
    const said = response.headers.get('content-range');
    throw new HubError('HUB_ANSWER_INVALID', `asked for bytes from ${start}, got "${said}".`);
  }
  return { start, byteCount: range[2] === '*' ? null : Number(range[2]) };
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  // An empty file comes with no body at all.
  return response.body ?? new ReadableStream({ start: (controller) => controller.close() });
}

function refusal(response: Response, place: HubPlace): HubError {
  const { status } = response;
  const url = hubUrl(place);
  if (status === 404) {
    return new HubError(
      'HUB_FILE_UNKNOWN',
      `${url} does not exist (404): check repository, revision and path.`,
    );
  }
  if (status === 401 || status === 403) {
    return new HubError(
      'HUB_REFUSED',
      `${url} is not public, or not for this address (${status}).`,
    );
  }
  const retryable = status === 408 || status === 429 || status >= 500;
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  return new HubError('HUB_REFUSED', `${url} answered ${status}.`, { retryable, retryAfterMs });
}
