import type { DocumentDecoration } from 'elysia';
import {
  bodyOf,
  type DocumentFacts,
  inputsOf,
  jsonReplyOf,
  ROW,
  type Schema,
  vectorReplyOf,
} from '../document-parts.ts';
import { openaiErrors, openaiKeyRefusal, unknownModel } from '../error-documents.ts';

/** What the OpenAPI document says of OpenAI's routes. */

const COUNT: Schema = { type: 'integer', minimum: 1 };

const EMBEDDINGS_REPLY: Schema = {
  type: 'object',
  required: ['object', 'data', 'model', 'usage'],
  properties: {
    object: { type: 'string', enum: ['list'] },
    data: {
      type: 'array',
      items: {
        type: 'object',
        required: ['object', 'index', 'embedding'],
        properties: {
          object: { type: 'string', enum: ['embedding'] },
          index: { type: 'integer', minimum: 0 },
          embedding: { oneOf: [ROW, { type: 'string', format: 'byte' }] },
        },
      },
    },
    model: { type: 'string' },
    usage: {
      type: 'object',
      required: ['prompt_tokens', 'total_tokens'],
      properties: { prompt_tokens: COUNT, total_tokens: COUNT },
    },
  },
};

/** `POST /v1/embeddings`. */
export const embeddingsDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'Embeddings, in the shape of OpenAI',
  description:
    'base64 is that of little-endian float32. Fields that are not named here are ignored, `user` ' +
    'among them; `input_type` may be `query` or `passage`, for models with prefixes. A binary ' +
    '`Accept` answers what /encode answers.',
  tags: ['OpenAI'],
  requestBody: bodyOf(
    {
      type: 'object',
      required: ['input'],
      properties: {
        input: inputsOf(facts),
        model: {
          type: 'string',
          nullable: true,
          ...(facts.strictModel ? { enum: [...facts.modelNames, null] } : {}),
          description: `This server has ${facts.model} alone, and every reply names it.`,
        },
        encoding_format: { type: 'string', nullable: true, enum: ['float', 'base64', null] },
        dimensions: { type: 'integer', nullable: true, enum: [...facts.dimensions, null] },
      },
    },
    {
      one: { input: 'исковая давность', model: facts.model },
      several: { input: ['исковая давность', 'рецепт борща'], encoding_format: 'base64' },
    },
  ),
  responses: {
    200: vectorReplyOf('One embedding for each input, in order.', EMBEDDINGS_REPLY, {
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding: [0.0123, -0.0456] }],
      model: facts.model,
      usage: { prompt_tokens: 4, total_tokens: 4 },
    }),
    ...openaiErrors(facts),
    ...(facts.strictModel ? { 404: unknownModel } : {}),
  },
});

const MODEL: Schema = {
  type: 'object',
  required: ['id', 'object', 'created', 'owned_by'],
  properties: {
    id: { type: 'string' },
    object: { type: 'string', enum: ['model'] },
    created: { type: 'integer' },
    owned_by: { type: 'string' },
    max_model_len: { type: 'integer' },
  },
};

/** `GET /v1/models`. */
export const modelsDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'The one model that is served',
  tags: ['OpenAI'],
  responses: {
    200: jsonReplyOf('A list of one.', {
      type: 'object',
      required: ['object', 'data'],
      properties: {
        object: { type: 'string', enum: ['list'] },
        data: { type: 'array', items: MODEL },
      },
    }),
    ...openaiKeyRefusal(facts),
  },
});

/** `GET /v1/models/:model`. */
export const modelDocument = (facts: DocumentFacts): DocumentDecoration => ({
  summary: 'The model, by its id or its name on its hub',
  tags: ['OpenAI'],
  parameters: [
    {
      name: 'model',
      in: 'path',
      required: true,
      schema: { type: 'string', minLength: 1 },
      example: facts.model,
    },
  ],
  responses: {
    200: jsonReplyOf('It.', MODEL),
    404: unknownModel,
    ...openaiKeyRefusal(facts),
  },
});
