import type { ErrorCode } from '../../base/errors.ts';
import { BAD_BODIES, BAD_HEADERS } from './bad-bodies.ts';
import { BAD_FIELDS } from './bad-fields.ts';

/** A request that must be refused, and how. */
export interface BadRequest {
  readonly name: string;
  readonly code: ErrorCode;
  readonly status: number;
  /** The field that the reply must name. */
  readonly field: string;
  /** What the message must say: the limit and the value, where there are any. */
  readonly says: readonly string[];
  readonly path?: string;
  readonly init: RequestInit;
}

const ROUTES: readonly (readonly [path: string, method: string, code: ErrorCode])[] = [
  ['/nowhere', 'GET', 'EMB_ROUTE_UNKNOWN'],
  ['/nowhere', 'POST', 'EMB_ROUTE_UNKNOWN'],
  ['/encode/', 'PATCH', 'EMB_ROUTE_UNKNOWN'],
  ['/encode', 'GET', 'EMB_METHOD_NOT_ALLOWED'],
  ['/encode', 'PUT', 'EMB_METHOD_NOT_ALLOWED'],
  ['/health', 'POST', 'EMB_METHOD_NOT_ALLOWED'],
  ['/ready', 'DELETE', 'EMB_METHOD_NOT_ALLOWED'],
  ['/get_vector_dim', 'POST', 'EMB_METHOD_NOT_ALLOWED'],
];

const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  EMB_BODY_MALFORMED: 400,
  EMB_ROUTE_UNKNOWN: 404,
  EMB_METHOD_NOT_ALLOWED: 405,
  EMB_ACCEPT_UNSUPPORTED: 406,
  EMB_BODY_TOO_LARGE: 413,
  EMB_CONTENT_TYPE_UNSUPPORTED: 415,
  EMB_FIELD_MISSING: 422,
  EMB_FIELD_UNKNOWN: 422,
  EMB_FIELD_INVALID: 422,
  EMB_TEXT_EMPTY: 422,
  EMB_TEXT_TOO_LONG: 422,
  EMB_TEXT_NOT_UNICODE: 422,
  EMB_TEXTS_TOO_MANY: 422,
};

/**
 * Every kind of bad input that a caller can send to the native routes. The statuses are said here
 * anew, on purpose.
 */
export const BAD_REQUESTS: readonly BadRequest[] = [
  ...[...BAD_FIELDS, ...BAD_BODIES, ...BAD_HEADERS].map(([name, code, field, says, init]) => ({
    ...{ name, code, field, says, init },
    status: STATUS[code] ?? 0,
  })),
  ...ROUTES.map(([path, method, code]) => ({
    name: `${method} ${path}`,
    code,
    status: STATUS[code] ?? 0,
    field: code === 'EMB_ROUTE_UNKNOWN' ? 'path' : 'method',
    says: code === 'EMB_ROUTE_UNKNOWN' ? [path] : [path, method],
    path,
    init: { method },
  })),
];
