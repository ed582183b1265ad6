import type { DocumentDecoration } from 'elysia';
import { type Schema, TEXTS_SCHEMA } from './document-parts.ts';

/** What the OpenAPI document says of the tokenizer's routes. */

/** `POST /tokenize`. */
export const TOKENIZE_DOCUMENT: DocumentDecoration = {
  summary: 'Token ids, pieces and offsets of texts',
  description: 'The shape of text-embeddings-inference. Offsets count characters (code points).',
  tags: ['tokens'],
  requestBody: {
    required: true,
    content: {
      'application/json': {
        schema: {
          type: 'object',
          required: ['inputs'],
          properties: {
            inputs: TEXTS_SCHEMA,
            add_special_tokens: { type: 'boolean', nullable: true, default: true },
          },
        },
        example: { inputs: 'исковая давность' },
      },
    },
  },
  responses: tokenResponses({
    type: 'array',
    items: { type: 'array', items: { type: 'object' } },
  }),
};

/** `POST /decode`. */
export const DECODE_DOCUMENT: DocumentDecoration = {
  summary: 'The text of token ids',
  tags: ['tokens'],
  requestBody: {
    required: true,
    content: {
      'application/json': {
        schema: {
          type: 'object',
          required: ['ids'],
          properties: {
            ids: {
              oneOf: [
                { type: 'array', items: { type: 'integer', minimum: 0 } },
                {
                  type: 'array',
                  items: { type: 'array', items: { type: 'integer', minimum: 0 } },
                },
              ],
            },
            skip_special_tokens: { type: 'boolean', nullable: true, default: true },
          },
        },
        example: { ids: [0, 9, 2] },
      },
    },
  },
  responses: tokenResponses({ type: 'array', items: { type: 'string' } }),
};

function tokenResponses(schema: Schema): NonNullable<DocumentDecoration['responses']> {
  const refused = {
    description: 'Refused, in the shape of text-embeddings-inference.',
    content: {
      'application/json': {
        schema: {
          type: 'object' as const,
          required: ['error', 'error_type'],
          properties: {
            error: { type: 'string' as const },
            error_type: { type: 'string' as const },
          },
        },
      },
    },
  };
  const content = { 'application/json': { schema } };
  return {
    200: { description: 'One entry for each input, in order.', content },
    400: refused,
    413: refused,
    415: refused,
    422: refused,
    424: refused,
    429: refused,
    503: refused,
  };
}
