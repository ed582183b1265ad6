import type { DocumentDecoration } from 'elysia';
import {
  bodyOf,
  type DocumentFacts,
  inputsOf,
  OPTIONAL_BOOLEAN,
  outputsOf,
  packedReplyOf,
  ROW,
  type Schema,
  textListOf,
  vectorReplyOf,
  weightsOf,
} from '../document-parts.ts';
import { teiErrors } from '../error-documents.ts';

/** What the OpenAPI document says of the routes of text-embeddings-inference. */

const TAGS = ['text-embeddings-inference'];

const TRUNCATION = {
  truncate: OPTIONAL_BOOLEAN,
  truncation_direction: {
    type: 'string',
    nullable: true,
    enum: ['Left', 'Right', 'left', 'right', null],
  },
} as const satisfies Record<string, Schema>;

const PROMPT: Schema = {
  type: 'string',
  nullable: true,
  enum: ['query', 'passage', 'document', null],
  description: 'Which prefix of the model stands in front; that of a query unless told.',
};

const inputBodyOf = (facts: DocumentFacts, properties: Record<string, Schema>) =>
  bodyOf(
    {
      type: 'object',
      required: ['inputs'],
      properties: { inputs: inputsOf(facts), ...TRUNCATION, prompt_name: PROMPT, ...properties },
    },
    { one: { inputs: 'исковая давность' }, several: { inputs: ['исковая давность', 'борщ'] } },
  );

/** `POST /embed`, and `POST /`. */
export const embedDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Dense vectors, one for each input',
  description: 'Rows have length one whatever `normalize` says: the engine gives no others.',
  tags: TAGS,
  requestBody: inputBodyOf(facts, {
    normalize: OPTIONAL_BOOLEAN,
    dimensions: { type: 'integer', nullable: true, enum: [...facts.dimensions, null] },
  }),
  responses: {
    200: vectorReplyOf('One row for each input, in order.', listOf({ oneOf: [ROW, BASE64] }), [
      [0.0123, -0.0456],
    ]),
    ...teiErrors(facts),
  },
});

/** `POST /embed_all`. */
export const embedAllDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'The multi-vector head: one row for each token but the first',
  tags: TAGS,
  requestBody: inputBodyOf(facts, {}),
  responses: {
    ...when(facts, 'multi_vector', {
      200: packedReplyOf(
        'The rows of each input, in order.',
        listOf(listOf({ oneOf: [ROW, BASE64] })),
        [[[0.0123, -0.0456]]],
      ),
    }),
    ...teiErrors(facts),
  },
});

/** `POST /embed_sparse`. */
export const embedSparseDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Lexical weights: token ids and the weight of each',
  tags: TAGS,
  requestBody: inputBodyOf(facts, {}),
  responses: {
    ...when(facts, 'sparse', {
      200: packedReplyOf('The weights of each input, in order.', listOf(listOf(WEIGHT)), [
        [{ index: 4865, value: 0.21 }],
      ]),
    }),
    ...teiErrors(facts),
  },
});

/** `POST /similarity`. */
export const similarityDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Cosines of one sentence with others',
  tags: TAGS,
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['inputs'],
      properties: {
        inputs: {
          type: 'object',
          required: ['source_sentence', 'sentences'],
          properties: {
            source_sentence: { type: 'string', minLength: 1 },
            sentences: textListOf(facts),
          },
        },
        parameters: {
          type: 'object',
          nullable: true,
          properties: { ...TRUNCATION, prompt_name: PROMPT },
        },
      },
    },
    { legal: { inputs: { source_sentence: 'исковая давность', sentences: ['борщ'] } } },
  ),
  responses: {
    200: packedReplyOf('One cosine for each sentence, in order.', ROW, [0.81]),
    ...teiErrors(facts),
  },
});

/** `POST /rerank`. */
export const rerankDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Texts by their score against a query, best first',
  description:
    'The score is the weighted mean of the heads that the model has, as on /score. It is a ' +
    'similarity: `raw_scores` changes nothing.',
  tags: TAGS,
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['query', 'texts'],
      properties: {
        query: { type: 'string', minLength: 1 },
        texts: textListOf(facts),
        ...TRUNCATION,
        raw_scores: OPTIONAL_BOOLEAN,
        return_text: OPTIONAL_BOOLEAN,
        outputs: outputsOf(facts, 'Heads to score by; all that the model has unless told.'),
        weights: weightsOf(facts),
      },
    },
    { legal: { query: 'исковая давность', texts: ['срок давности', 'борщ'] } },
  ),
  responses: {
    200: packedReplyOf('Texts by descending score.', listOf(RANK), [{ index: 0, score: 0.81 }]),
    ...teiErrors(facts),
  },
});

const BASE64: Schema = { type: 'string', format: 'byte' };

const WEIGHT: Schema = {
  type: 'object',
  required: ['index', 'value'],
  properties: { index: { type: 'integer' }, value: { type: 'number' } },
};

const RANK: Schema = {
  type: 'object',
  required: ['index', 'score'],
  properties: {
    index: { type: 'integer' },
    text: { type: 'string' },
    score: { type: 'number' },
  },
};

function listOf(items: Schema): Schema {
  return { type: 'array', items };
}

/** A model without the head has no such reply: 424 says so. */
function when<Value>({ heads }: DocumentFacts, head: string, value: Value): Value | object {
  return (heads as readonly string[]).includes(head) ? value : {};
}
