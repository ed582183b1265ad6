import type { DocumentDecoration } from 'elysia';

/** Parts of the OpenAPI document that all APIs use. */

/** A JSON schema as OpenAPI 3.0 has it. */
export type Schema = NonNullable<
  Extract<
    NonNullable<NonNullable<DocumentDecoration['parameters']>[number]>,
    { schema?: unknown }
  >['schema']
>;

/** What a route answers, by status. */
export type Replies = NonNullable<DocumentDecoration['responses']>;

/**
 * The formats in which a reply comes. `vectors`: JSON, msgpack and raw bytes; `values`: JSON and
 * msgpack, since raw bytes carry vectors alone; `json`: JSON whatever is accepted.
 */
export type ReplyFormats = 'vectors' | 'values' | 'json';

/** The schema of a list. */
export function listOf(items: Schema): Schema {
  return { type: 'array', items };
}

/** The schema of an object. */
export function objectOf(properties: Record<string, Schema>, required: string[]): Schema {
  return { type: 'object', required, properties };
}

/** Numbers of a row. */
export const ROW: Schema = listOf({ type: 'number' });

/** The row of a text; null for an empty one with EMPTY_TEXTS=null. */
export const TEXT_ROW: Schema = { ...ROW, nullable: true };

/** The same as numbers, or as base64 of little-endian float32. */
export const ROW_OR_BASE64: Schema = {
  oneOf: [ROW, { type: 'string', format: 'byte' }],
  nullable: true,
};

const BINARY = { schema: { type: 'string', format: 'binary' } } as const;

/** A body in JSON, or in msgpack with the same fields. */
export function bodyDocument(
  schema: Schema,
  examples: Readonly<Record<string, unknown>>,
): NonNullable<DocumentDecoration['requestBody']> {
  const named = Object.entries(examples).map(([name, value]) => [name, { value }]);
  const json = { schema, examples: Object.fromEntries(named) };
  return { required: true, content: { 'application/json': json, 'application/msgpack': BINARY } };
}

/** What a reply holds. */
export interface ReplyDocument {
  readonly description: string;
  readonly schema: Schema;
  readonly example?: unknown;
}

/** A reply in its formats; in JSON alone unless told. */
export function replyDocument(
  { description, schema, example }: ReplyDocument,
  formats: ReplyFormats = 'json',
) {
  const json = { schema, ...(example === undefined ? {} : { example }) };
  return {
    description,
    content: {
      'application/json': json,
      ...(formats === 'json' ? {} : { 'application/msgpack': BINARY }),
      ...(formats === 'vectors' ? { 'application/octet-stream': BINARY } : {}),
    },
  };
}

/** Fields of an error beside its message, for each shape that has room for them. */
export const ERROR_FIELDS = {
  code: { type: 'string', example: 'EMB_FIELD_MISSING' },
  retryable: { type: 'boolean' },
  request_id: { type: 'string' },
  field: { type: 'string' },
  limit: {},
  value: {},
} as const satisfies Record<string, Schema>;

/** What a status means, in every API. */
const MEANINGS: Readonly<Record<number, string>> = {
  400: 'The body, or a field of it, is wrong.',
  401: 'No API key, or not one of this server.',
  404: 'The request names another model.',
  406: 'No format in Accept is known.',
  408: 'The body took too long to arrive.',
  413: 'The body is too large.',
  415: 'The Content-Type is not known.',
  422: 'A field is missing, wrong or over its limit.',
  424: 'The backend failed, or the model has no such head.',
  429: 'The queue is full; Retry-After says when to come back.',
  500: 'A fault of the server.',
  501: 'The tokenizer of this model cannot do it.',
  502: 'The backend failed the batch.',
  503: 'The backend is down, or the server is draining.',
  504: 'A deadline passed.',
};

/** Errors of one shape, by status. */
export function errorDocuments(schema: Schema, statuses: readonly number[]): Replies {
  const replies = statuses.map((status) => {
    const description = MEANINGS[status] ?? '';
    return [status, replyDocument({ description, schema })];
  });
  return Object.fromEntries(replies);
}
