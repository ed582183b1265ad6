import type { DocumentDecoration } from 'elysia';
import {
  bodyOf,
  type DocumentFacts,
  jsonReplyOf,
  OPTIONAL_BOOLEAN,
  type Schema,
  textsOf,
  tokenIdOf,
} from '../document-parts.ts';
import { teiErrors } from '../error-documents.ts';

/** What the OpenAPI document says of the tokenizer's routes. */

const TOKEN: Schema = {
  type: 'object',
  required: ['id', 'text', 'special', 'start', 'stop'],
  properties: {
    id: { type: 'integer' },
    text: { type: 'string' },
    special: { type: 'boolean' },
    start: { type: 'integer', nullable: true },
    stop: { type: 'integer', nullable: true },
  },
};

/** `POST /tokenize`. */
export const tokenizeDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Token ids, pieces and offsets of texts',
  description: 'The shape of text-embeddings-inference. Offsets count characters (code points).',
  tags: ['tokens'],
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['inputs'],
      properties: { inputs: textsOf(facts), add_special_tokens: OPTIONAL_BOOLEAN },
    },
    { legal: { inputs: 'исковая давность' } },
  ),
  responses: {
    200: jsonReplyOf('The tokens of each input, in order.', {
      type: 'array',
      items: { type: 'array', items: TOKEN },
    }),
    ...teiErrors(facts),
  },
});

/** `POST /decode`. */
export const decodeDocument = (facts: DocumentFacts): DocumentDecoration => {
  const ids: Schema = { type: 'array', items: tokenIdOf(facts) };
  return {
    summary: 'The text of token ids',
    tags: ['tokens'],
    requestBody: bodyOf(
      {
        type: 'object',
        required: ['ids'],
        properties: {
          ids: { anyOf: [ids, { type: 'array', items: ids }] },
          skip_special_tokens: OPTIONAL_BOOLEAN,
        },
      },
      { greeting: { ids: [0, 33600, 31, 2] } },
    ),
    responses: {
      200: jsonReplyOf('One text for each list of ids, in order.', {
        type: 'array',
        items: { type: 'string' },
      }),
      ...teiErrors(facts),
    },
  };
};
