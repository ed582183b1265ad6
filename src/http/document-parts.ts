import type { DocumentDecoration } from 'elysia';

/** A JSON schema as OpenAPI 3.0 has it. */
export type Schema = NonNullable<
  Extract<
    NonNullable<NonNullable<DocumentDecoration['parameters']>[number]>,
    { schema?: unknown }
  >['schema']
>;

/** One text, or several. */
export const TEXTS_SCHEMA: Schema = {
  oneOf: [
    { type: 'string', minLength: 1 },
    { type: 'array', items: { type: 'string', minLength: 1 }, minItems: 1 },
  ],
};

const ERROR_SCHEMA: Schema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'retryable', 'request_id'],
      properties: {
        code: { type: 'string', example: 'EMB_FIELD_MISSING' },
        message: { type: 'string' },
        retryable: { type: 'boolean' },
        request_id: { type: 'string' },
        field: { type: 'string' },
        limit: {},
        value: {},
      },
    },
  },
};

/** An error reply in our own shape. */
export const errorReplyOf = (description: string) => ({
  description,
  content: { 'application/json': { schema: ERROR_SCHEMA } },
});

/** A reply that is a JSON object. */
export const objectReplyOf = (description: string, example: unknown) => ({
  description,
  content: { 'application/json': { schema: { type: 'object' as const }, example } },
});
