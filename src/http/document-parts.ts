import type { DocumentDecoration } from 'elysia';
import { type ModelManifest, modelNamesOf } from '../model/manifest.ts';
import type { Head } from '../vectors/head.ts';

/**
 * What the documents of all routes are made of. Requests are checked by hand-written code, so they
 * are written by hand too; the tests hold the two together.
 */

/** A JSON schema as OpenAPI 3.0 has it. */
export type Schema = NonNullable<
  Extract<
    NonNullable<NonNullable<DocumentDecoration['parameters']>[number]>,
    { schema?: unknown }
  >['schema']
>;

/** What every route answers, by status. */
export type Replies = NonNullable<DocumentDecoration['responses']>;

/** What the documents say of this very server: its model and its limits. */
export interface DocumentFacts {
  readonly model: string;
  /** What a request may call it. */
  readonly modelNames: readonly string[];
  readonly dimension: number;
  /** What `dimensions` may ask for. */
  readonly dimensions: readonly number[];
  readonly heads: readonly Head[];
  readonly requestTextsMax: number;
  /** Ids run from 0 to before this; undefined where it is not known. */
  readonly vocabularySize: number | undefined;
  readonly allowTokenIds: boolean;
  readonly strictModel: boolean;
  readonly isKeyNeeded: boolean;
}

/** @param config the settings that show in the documents. */
export function documentFactsOf(
  manifest: ModelManifest,
  vocabularySize: number | undefined,
  config: {
    readonly requestTextsMax: number;
    readonly allowTokenIds: boolean;
    readonly strictModel: boolean;
    readonly apiKeys: readonly string[];
    readonly apiKeysFile: string;
  },
): DocumentFacts {
  const { requestTextsMax, allowTokenIds, strictModel } = config;
  return {
    model: manifest.id,
    modelNames: modelNamesOf(manifest),
    dimension: manifest.dimension,
    dimensions: [manifest.dimension, ...manifest.shortDimensions],
    heads: manifest.heads,
    requestTextsMax,
    vocabularySize,
    allowTokenIds,
    strictModel,
    isKeyNeeded: config.apiKeys.length > 0 || config.apiKeysFile !== '',
  };
}

const TEXT: Schema = { type: 'string', minLength: 1 };

/** A boolean that may be absent or null. */
export const OPTIONAL_BOOLEAN: Schema = { type: 'boolean', nullable: true };

/** Several texts, at least one. */
export const textListOf = ({ requestTextsMax }: DocumentFacts): Schema => ({
  type: 'array',
  items: TEXT,
  minItems: 1,
  maxItems: requestTextsMax,
});

/** One text, or several. */
export const textsOf = (facts: DocumentFacts): Schema => ({ oneOf: [TEXT, textListOf(facts)] });

/** One text, or several; where it is allowed, as token ids too. */
export function inputsOf(facts: DocumentFacts): Schema {
  if (!facts.allowTokenIds) return textsOf(facts);
  const ids: Schema = { type: 'array', items: tokenIdOf(facts), minItems: 1 };
  const idLists: Schema = {
    type: 'array',
    items: ids,
    minItems: 1,
    maxItems: facts.requestTextsMax,
  };
  return { oneOf: [TEXT, textListOf(facts), ids, idLists] };
}

/** A token id. */
export const tokenIdOf = ({ vocabularySize }: DocumentFacts): Schema => ({
  type: 'integer',
  minimum: 0,
  ...(vocabularySize === undefined ? {} : { maximum: vocabularySize - 1 }),
});

/** A list of heads, those that the model has. */
export const outputsOf = ({ heads }: DocumentFacts, description: string): Schema => ({
  type: 'array',
  nullable: true,
  items: { type: 'string', enum: [...heads] },
  minItems: 1,
  description,
});

/** The weight of each head in a score. */
export const weightsOf = ({ heads }: DocumentFacts): Schema => ({
  type: 'object',
  nullable: true,
  properties: Object.fromEntries(
    heads.map((head) => [head, { type: 'number', minimum: 0, maximum: 1e6 } as const]),
  ),
  additionalProperties: false,
  description:
    'Weight of each output in the weighted mean, not all 0; 1 each unless told. One that is not ' +
    'named has none.',
});

/** Numbers of a row. */
export const ROW: Schema = { type: 'array', items: { type: 'number' } };

/** A body in JSON, or in msgpack with the same fields. */
export const bodyOf = (
  schema: Schema,
  examples: Readonly<Record<string, unknown>>,
): NonNullable<DocumentDecoration['requestBody']> => ({
  required: true,
  content: {
    'application/json': {
      schema,
      examples: Object.fromEntries(
        Object.entries(examples).map(([name, value]) => [name, { value }]),
      ),
    },
    'application/msgpack': { schema: { type: 'string', format: 'binary' } },
  },
});

/** A reply in JSON alone. */
export const jsonReplyOf = (description: string, schema: Schema, example?: unknown) => ({
  description,
  content: { 'application/json': { schema, ...(example === undefined ? {} : { example }) } },
});

const BINARY = { schema: { type: 'string', format: 'binary' } } as const;

/** A reply in JSON, or in `/encode`'s msgpack. */
export const packedReplyOf = (description: string, schema: Schema, example: unknown) => ({
  description,
  content: { 'application/json': { schema, example }, 'application/msgpack': BINARY },
});

/** A reply in JSON, or in one of `/encode`'s binary forms. */
export const vectorReplyOf = (description: string, schema: Schema, example: unknown) => ({
  description,
  content: {
    'application/json': { schema, example },
    'application/msgpack': BINARY,
    'application/octet-stream': BINARY,
  },
});
