import type { DocumentDecoration } from 'elysia';
import {
  bodyOf,
  type DocumentFacts,
  jsonReplyOf,
  OPTIONAL_BOOLEAN,
  outputsOf,
  packedReplyOf,
  ROW,
  type Schema,
  textListOf,
  textsOf,
  vectorReplyOf,
  weightsOf,
} from '../document-parts.ts';
import { keyRefusal, nativeErrors } from '../error-documents.ts';

/** What the OpenAPI document says of our own routes. */

const TRUNCATE: Schema = {
  ...OPTIONAL_BOOLEAN,
  description: 'Cut texts that are too long (true), or refuse them (false).',
};

/** An integer, a boolean or the like for one text; an array of them for several. */
const oneOrMore = (items: Schema): Schema => ({ oneOf: [items, { type: 'array', items }] });

const WEIGHTS_OF_TEXT: Schema = {
  type: 'object',
  required: ['indices', 'values'],
  properties: {
    indices: { type: 'array', items: { type: 'integer' } },
    values: ROW,
    tokens: { type: 'array', items: { type: 'string' } },
  },
};

const ENCODE_REPLY: Schema = {
  type: 'object',
  required: ['model', 'dim', 'tokens', 'truncated'],
  properties: {
    embedding: ROW,
    embeddings: { type: 'array', items: ROW },
    model: { type: 'string' },
    dim: { type: 'integer' },
    tokens: oneOrMore({ type: 'integer' }),
    truncated: oneOrMore({ type: 'boolean' }),
    sparse: oneOrMore(WEIGHTS_OF_TEXT),
    multi_vector: { type: 'array', items: {} },
  },
};

/** `POST /encode`. */
export const encodeDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Encode one text or several',
  description:
    'A string answers `embedding`, an array `embeddings`. `Accept: application/msgpack` answers ' +
    'msgpack with the float32 rows as one binary block; `; layout=numpy` the form of ' +
    'msgpack-numpy; `application/octet-stream` the rows alone. Header `x-timeout-ms` says how ' +
    'long the caller waits.',
  tags: ['native'],
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['query'],
      properties: {
        query: { ...textsOf(facts), description: 'One text, or several.' },
        batch_size: {
          type: 'integer',
          minimum: 1,
          maximum: facts.requestTextsMax,
          nullable: true,
          description: 'At most this many texts of the request ride in one backend batch.',
        },
        truncate: TRUNCATE,
        outputs: outputsOf(facts, 'What to compute; dense unless told.'),
        sparse_tokens: {
          ...OPTIONAL_BOOLEAN,
          description: 'Adds `tokens` to each `sparse`: the piece of each id. Needs that output.',
        },
        input_type: {
          type: 'string',
          nullable: true,
          enum: ['query', 'passage', null],
          description: 'Which prefix of the model stands in front of the texts. BGE-M3 has none.',
        },
      },
    },
    {
      one: { query: 'тест', batch_size: 1 },
      several: { query: ['расторжение договора аренды', 'рецепт борща'] },
    },
  ),
  responses: {
    200: vectorReplyOf('One row a text, in order.', ENCODE_REPLY, {
      embedding: [0.0123, -0.0456],
      model: facts.model,
      dim: facts.dimension,
      tokens: 3,
      truncated: false,
    }),
    ...nativeErrors(facts),
  },
});

/** `POST /score`. */
export const scoreDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Score texts against a query by each head',
  tags: ['native'],
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['query', 'texts'],
      properties: {
        query: { type: 'string', minLength: 1 },
        texts: textListOf(facts),
        outputs: outputsOf(facts, 'Heads to score by; all that the model has unless told.'),
        weights: weightsOf(facts),
        truncate: TRUNCATE,
      },
    },
    {
      legal: { query: 'расторжение договора', texts: ['прекращение договора', 'рецепт борща'] },
    },
  ),
  responses: {
    200: packedReplyOf(
      'One score a text and head, and their weighted mean.',
      {
        type: 'object',
        required: ['model', 'scores', 'weights'],
        properties: {
          model: { type: 'string' },
          scores: { type: 'object', additionalProperties: ROW },
          weights: { type: 'object', additionalProperties: { type: 'number' } },
        },
      },
      {
        model: facts.model,
        scores: { dense: [0.8, 0.3], weighted: [0.8, 0.3] },
        weights: { dense: 1 },
      },
    ),
    ...nativeErrors(facts),
  },
});

const OBJECT: Schema = { type: 'object' };

/** `GET /get_vector_dim`. */
export const vectorDimDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Dimensions of a row',
  tags: ['native'],
  responses: {
    200: jsonReplyOf('The dimension.', OBJECT, {
      vector_dim: facts.dimension,
      model: facts.model,
    }),
    ...keyRefusal(facts),
  },
});

/** `GET /health`. */
export const HEALTH_DOCUMENT: DocumentDecoration = {
  summary: 'Whether the process lives',
  security: [],
  tags: ['operations'],
  responses: { 200: jsonReplyOf('It does.', OBJECT, { status: 'ok' }) },
};

/** `GET /ready`. */
export const READY_DOCUMENT: DocumentDecoration = {
  summary: 'Whether a text sent now would be answered',
  security: [],
  tags: ['operations'],
  responses: {
    200: jsonReplyOf('It would.', OBJECT, { ready: true, model: 'bge-m3' }),
    503: jsonReplyOf('It would not.', OBJECT, {
      ready: false,
      model: 'bge-m3',
      reason: 'The backend is down or still loading.',
    }),
  },
};

/** `GET /info`. */
export const infoDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Model, backend, queue and settings',
  description: 'Holds the fields of text-embeddings-inference too.',
  tags: ['operations'],
  responses: {
    200: jsonReplyOf('What this server is.', OBJECT, { version: '0.1.0' }),
    ...keyRefusal(facts),
  },
});
