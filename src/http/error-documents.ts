import { type DocumentFacts, jsonReplyOf, type Replies, type Schema } from './document-parts.ts';

/** What the documents say of errors: one shape for each front door. */

const DETAILS = {
  code: { type: 'string', example: 'EMB_FIELD_MISSING' },
  retryable: { type: 'boolean' },
  request_id: { type: 'string' },
  field: { type: 'string' },
  limit: {},
  value: {},
} as const satisfies Record<string, Schema>;

const NATIVE: Schema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'retryable', 'request_id'],
      properties: { ...DETAILS, message: { type: 'string' } },
    },
  },
};

const OPENAI: Schema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['message', 'type', 'param', 'code'],
      properties: {
        ...DETAILS,
        message: { type: 'string' },
        type: { type: 'string' },
        param: { type: 'string', nullable: true },
      },
    },
  },
};

const TEI: Schema = {
  type: 'object',
  required: ['error', 'error_type'],
  properties: { ...DETAILS, error: { type: 'string' }, error_type: { type: 'string' } },
};

const MEANINGS: Readonly<Record<number, string>> = {
  400: 'The body is not valid JSON or msgpack.',
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

const repliesOf =
  (schema: Schema, statuses: readonly number[], meanings = MEANINGS) =>
  ({ isKeyNeeded }: DocumentFacts): Replies =>
    Object.fromEntries(
      [...(isKeyNeeded ? [401] : []), ...statuses].map((status) => [
        status,
        jsonReplyOf(meanings[status] ?? '', schema),
      ]),
    );

/** The errors of our own routes. */
export const nativeErrors = repliesOf(
  NATIVE,
  [400, 406, 408, 413, 415, 422, 429, 500, 501, 502, 503, 504],
);

/** The error of our own routes that know no other; none where no key is needed. */
export const keyRefusal = repliesOf(NATIVE, []);

const OPENAI_MEANINGS = { ...MEANINGS, 400: 'The body, or a field of it, is wrong.' };

/** The errors of OpenAI's routes. */
export const openaiErrors = repliesOf(
  OPENAI,
  [400, 406, 408, 413, 415, 429, 500, 501, 502, 503, 504],
  OPENAI_MEANINGS,
);

/** The error of OpenAI's routes that know no other; none where no key is needed. */
export const openaiKeyRefusal = repliesOf(OPENAI, []);

/** That there is no such model, in OpenAI's shape. */
export const unknownModel = jsonReplyOf(MEANINGS[404] ?? '', OPENAI);

/** The errors of the routes of text-embeddings-inference. */
export const teiErrors = repliesOf(TEI, [400, 406, 408, 413, 415, 422, 424, 429, 503]);
