import type { DocumentDecoration } from 'elysia';
import { errorReplyOf, objectReplyOf, type Schema, TEXTS_SCHEMA } from './document-parts.ts';

/**
 * What the OpenAPI document says of our own routes. Requests are checked by hand-written code, so
 * this is written by hand too.
 */

const ENCODE_SCHEMA: Schema = {
  type: 'object',
  required: ['query'],
  properties: {
    query: { ...TEXTS_SCHEMA, description: 'One text, or several.' },
    batch_size: {
      type: 'integer',
      minimum: 1,
      nullable: true,
      description: 'At most this many texts of the request ride in one backend batch.',
    },
    truncate: {
      type: 'boolean',
      nullable: true,
      description: 'Cut texts that are too long (true), or refuse them (false).',
    },
    outputs: {
      type: 'array',
      items: { type: 'string', enum: ['dense', 'sparse', 'multi_vector'] },
      description: 'What to compute; dense unless told.',
    },
    sparse_tokens: {
      type: 'boolean',
      nullable: true,
      description: 'Adds `tokens` to each `sparse`: the piece of each id. Needs that output.',
    },
    input_type: {
      type: 'string',
      enum: ['query', 'passage'],
      description: 'Which prefix of the model stands in front of the texts. BGE-M3 has none.',
    },
  },
};

const ENCODE_EXAMPLE = {
  embedding: [0.0123, -0.0456],
  model: 'bge-m3',
  dim: 1024,
  tokens: 3,
  truncated: false,
};

/** `POST /encode`. */
export const ENCODE_DOCUMENT: DocumentDecoration = {
  summary: 'Encode one text or several',
  description:
    'A string answers `embedding`, an array `embeddings`. `Accept: application/msgpack` answers msgpack with the float32 ' +
    'rows as one binary block; `; layout=numpy` the form of msgpack-numpy.',
  tags: ['native'],
  requestBody: {
    required: true,
    content: {
      'application/json': {
        schema: ENCODE_SCHEMA,
        examples: {
          one: { value: { query: 'тест', batch_size: 1 } },
          several: { value: { query: ['расторжение договора аренды', 'рецепт борща'] } },
        },
      },
      'application/msgpack': { schema: { type: 'string', format: 'binary' } },
    },
  },
  responses: {
    200: {
      description: 'One row a text, in order.',
      content: {
        'application/json': { schema: { type: 'object' }, example: ENCODE_EXAMPLE },
        'application/msgpack': { schema: { type: 'string', format: 'binary' } },
        'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
      },
    },
    400: errorReplyOf('The body is not valid JSON or msgpack.'),
    406: errorReplyOf('No format in Accept is known.'),
    413: errorReplyOf('The body is too large.'),
    415: errorReplyOf('The Content-Type is not known.'),
    422: errorReplyOf('A field is missing, wrong or over its limit.'),
    429: errorReplyOf('The queue is full; Retry-After says when to come back.'),
    500: errorReplyOf('A fault of the server.'),
    502: errorReplyOf('The backend failed the batch.'),
    503: errorReplyOf('The backend is down, or the server is draining.'),
    504: errorReplyOf('A deadline passed.'),
  },
};

const SCORE_SCHEMA: Schema = {
  type: 'object',
  required: ['query', 'texts'],
  properties: {
    query: { type: 'string', minLength: 1 },
    texts: { type: 'array', items: { type: 'string', minLength: 1 }, minItems: 1 },
    outputs: {
      type: 'array',
      items: { type: 'string', enum: ['dense', 'sparse', 'multi_vector'] },
      description: 'Heads to score by; all that the model has unless told.',
    },
    weights: {
      type: 'object',
      additionalProperties: { type: 'number' },
      description: 'Weight of each head in the weighted mean; 1 each unless told.',
    },
    truncate: { type: 'boolean', nullable: true },
  },
};

/** `POST /score`. */
export const SCORE_DOCUMENT: DocumentDecoration = {
  summary: 'Score texts against a query by each head',
  tags: ['native'],
  requestBody: {
    required: true,
    content: {
      'application/json': {
        schema: SCORE_SCHEMA,
        example: { query: 'расторжение договора', texts: ['прекращение договора', 'рецепт борща'] },
      },
    },
  },
  responses: {
    ...ENCODE_DOCUMENT.responses,
    200: objectReplyOf('One score a text and head, and their weighted mean.', {
      model: 'bge-m3',
      scores: {
        dense: [0.8, 0.3],
        sparse: [0.2, 0],
        multi_vector: [0.7, 0.4],
        weighted: [0.57, 0.23],
      },
      weights: { dense: 1, sparse: 1, multi_vector: 1 },
    }),
  },
};

/** `GET /get_vector_dim`. */
export const VECTOR_DIM_DOCUMENT: DocumentDecoration = {
  summary: 'Dimensions of a row',
  tags: ['native'],
  responses: { 200: objectReplyOf('The dimension.', { vector_dim: 1024, model: 'bge-m3' }) },
};

/** `GET /health`. */
export const HEALTH_DOCUMENT: DocumentDecoration = {
  summary: 'Whether the process lives',
  tags: ['operations'],
  responses: { 200: objectReplyOf('It does.', { status: 'ok' }) },
};

/** `GET /ready`. */
export const READY_DOCUMENT: DocumentDecoration = {
  summary: 'Whether a text sent now would be answered',
  tags: ['operations'],
  responses: {
    200: objectReplyOf('It would.', { ready: true, model: 'bge-m3' }),
    503: objectReplyOf('It would not.', {
      ready: false,
      model: 'bge-m3',
      reason: 'Triton is down.',
    }),
  },
};

/** `GET /info`. */
export const INFO_DOCUMENT: DocumentDecoration = {
  summary: 'Model, backend, queue and settings',
  tags: ['operations'],
  responses: { 200: objectReplyOf('What this server is.', { version: '0.1.0' }) },
};
