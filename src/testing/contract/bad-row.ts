import type { ErrorCode } from '../../base/errors.ts';

/** Limits of the server under test, small enough to be broken in a few bytes. */
export const LIMITS = { texts: 4, bodyBytes: 60_000, characters: 25_000, tokens: 8192 } as const;

/** Never in a reply: what a caller sent is the caller's. */
export const SECRET = 'sekret';

export const JSON_TYPE = { 'content-type': 'application/json' };
export const MSGPACK_TYPE = { 'content-type': 'application/msgpack' };

/** A POST of this body. */
export function post(body: BodyInit, headers: Record<string, string> = JSON_TYPE): RequestInit {
  return { method: 'POST', headers, body };
}

/** A POST of this value as JSON. */
export function postJson(body: unknown): RequestInit {
  return post(JSON.stringify(body));
}

/** A POST of these bytes as msgpack. */
export function postMsgpack(...bytes: number[]): RequestInit {
  return post(Uint8Array.from(bytes), MSGPACK_TYPE);
}

/** A POST of a msgpack map of one key, `query`, whose value is a string of these bytes. */
export function msgpackQuery(...bytes: number[]): RequestInit {
  return postMsgpack(0x81, 0xa5, ...Buffer.from('query'), 0xa0 + bytes.length, ...bytes);
}

/** A request to `/encode`, and how it must be refused. */
export type BadRow = readonly [
  name: string,
  code: ErrorCode,
  field: string,
  says: readonly string[],
  init: RequestInit,
];
