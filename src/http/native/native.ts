import { ServerError } from '../../base/errors.ts';
import { checkFormatCarries } from '../../reply/encode-reply.ts';
import type { SparseRow } from '../../reply/reply-content.ts';
import { HEADS, headSet } from '../../vectors/output.ts';
import type { SparseWeights } from '../../vectors/sparse.ts';
import { type Api, encodeTexts, get, post, type Route } from '../api.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf, ROW, replyDocument, type Schema, TEXT_ROW } from '../document.ts';
import { NATIVE_ERRORS } from '../error-reply.ts';
import { BOOLEAN, integer, oneOf, optional, someOf, withDefault } from '../fields.ts';
import { toldHeaders, valueReply, vectorReply } from '../response.ts';
import { encodeAndScore, headsAndWeights, scoringFields } from '../scoring.ts';
import { TEXT, textList, textNameOf, texts } from '../text-fields.ts';
import { scoredTokensFields, scoredTokensOf } from '../vector-fields.ts';

/** Our own API: `POST /encode`, `GET /get_vector_dim` and `POST /score`. */
export function nativeApi(context: ApiContext): Api {
  const routes = [encodeRoute(context), vectorDimRoute(context), scoreRoute(context)];
  return { tag: 'native', errors: NATIVE_ERRORS, routes };
}

function encodeRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const fields = {
    query: texts(limits.requestTextsMax, 'One text, or several.'),
    outputs: withDefault(
      someOf(HEADS, manifest.heads),
      ['dense'],
      'What to compute; dense unless told.',
    ),
    sparse_tokens: withDefault(
      BOOLEAN,
      false,
      'Adds `tokens` to each `sparse`: the piece of each id. Needs that output.',
    ),
    input_type: optional(
      oneOf(['query', 'passage']),
      'Which prefix of the model stands in front of the texts; query unless told. BGE-M3 has none.',
    ),
    truncate: withDefault(BOOLEAN, limits.truncate, TRUNCATE_WORDS),
    batch_size: optional(
      integer({ min: 1, max: limits.requestTextsMax }),
      'At most this many texts of the request ride in one backend batch.',
    ),
  };
  return post(context, '/encode', {
    fields,
    unknownFields: limits.allowUnknownFields ? 'ignored' : 'refused',
    formats: 'vectors',
    summary: 'Encode one text or several',
    description:
      'A string answers `embedding`, an array `embeddings`. `Accept: application/msgpack` answers ' +
      'msgpack with the float32 rows as one binary block; `; layout=numpy` the form of ' +
      'msgpack-numpy; `application/octet-stream` the rows alone. Header `x-timeout-ms` says how ' +
      'long the caller waits. `empty` is there when of a text nothing was left to encode.',
    examples: {
      one: { query: 'тест', batch_size: 1 },
      several: { query: ['расторжение договора аренды', 'рецепт борща'] },
    },
    reply: {
      description: 'One row a text, in order.',
      schema: ENCODE_REPLY,
      example: {
        embedding: [0.0123, -0.0456],
        model: manifest.id,
        dim: manifest.dimension,
        tokens: 3,
        truncated: false,
      },
    },
    async answer(call, { query, outputs, sparse_tokens, input_type, truncate, batch_size }) {
      const { format } = call;
      const halves = format.kind === 'msgpack' && format.dtype === 'float16';
      const heads = headSet(outputs, { halves });
      checkFormatCarries(format, {
        dense: heads.includes('dense'),
        sparse: heads.includes('sparse'),
        multiVectors: heads.includes('multi_vector'),
      });
      if (sparse_tokens) refuseUnlessPieces(context, outputs);
      const result = await encodeTexts(context, call, {
        texts: query.texts,
        heads,
        inputType: input_type,
        truncate,
        batchTextsMax: batch_size,
        fieldOf: textNameOf('query', query),
      });
      const sparse = sparse_tokens ? withPieces(context, result.sparse) : result.sparse;
      return vectorReply(context, call, {
        result: sparse === undefined ? result : { ...result, sparse },
        format,
        dimension: manifest.dimension,
        isSingle: query.isSingle,
      });
    },
  });
}

const TRUNCATE_WORDS = 'Cut texts that are too long (true), or refuse them (false).';

/** @throws ServerError EMB_FIELD_INVALID or EMB_TOKENIZER_UNSUPPORTED, before any work. */
function refuseUnlessPieces({ vocabulary }: ApiContext, outputs: readonly string[]): void {
  const field = 'sparse_tokens';
  if (!outputs.includes('sparse')) {
    const message = 'sparse_tokens is true, but outputs does not have "sparse".';
    throw new ServerError('EMB_FIELD_INVALID', message, { field, limit: 'sparse' });
  }
  if (vocabulary !== undefined) return;
  const message = "This model's tokenizer gives no pieces; GET /info names its engine.";
  throw new ServerError('EMB_TOKENIZER_UNSUPPORTED', message, { field });
}

/** The piece of each sparse id beside it, `▁` for a space as the vocabulary has it. */
function withPieces(
  { vocabulary }: ApiContext,
  sparse: readonly SparseWeights[] = [],
): readonly SparseRow[] {
  return sparse.map((weights) => ({
    ...weights,
    tokens: Array.from(weights.indices, (id) => vocabulary?.pieceOf(id) ?? ''),
  }));
}

/** An integer, a boolean or the like for one text; an array of them for several. */
const oneOrMore = (items: Schema): Schema => ({ oneOf: [items, listOf(items)] });

const ENCODE_REPLY: Schema = objectOf(
  {
    embedding: TEXT_ROW,
    embeddings: listOf(TEXT_ROW),
    model: { type: 'string' },
    dim: { type: 'integer' },
    tokens: oneOrMore({ type: 'integer' }),
    truncated: oneOrMore({ type: 'boolean' }),
    empty: oneOrMore({ type: 'boolean' }),
    sparse: oneOrMore(
      objectOf(
        { indices: listOf({ type: 'integer' }), values: ROW, tokens: listOf({ type: 'string' }) },
        ['indices', 'values'],
      ),
    ),
    multi_vector: listOf({}),
  },
  ['model', 'dim', 'tokens', 'truncated'],
);

function vectorDimRoute({ manifest }: ApiContext): Route {
  const answer = { vector_dim: manifest.dimension, model: manifest.id };
  const reply = replyDocument({
    description: 'The dimension.',
    schema: { type: 'object' },
    example: answer,
  });
  const document = { summary: 'Dimensions of a row', responses: { 200: reply } };
  return get('/get_vector_dim', document, () => answer);
}

/** `POST /score`: texts against a query by each head, and the weighted mean. */
function scoreRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const fields = {
    ...scoringFields(context),
    truncate: optional(BOOLEAN, TRUNCATE_WORDS),
    ...scoredTokensFields(manifest),
    query: TEXT,
    texts: textList(limits.requestTextsMax),
  };
  return post(context, '/score', {
    fields,
    formats: 'values',
    summary: 'Score texts against a query by each head',
    examples: {
      legal: { query: 'расторжение договора', texts: ['прекращение договора', 'рецепт борща'] },
    },
    reply: {
      description:
        'One score a text and head, and their weighted mean. The header `x-truncated-count` says how ' +
        'many texts were cut, the query among them, and `x-empty-count` of how many nothing was left.',
      schema: objectOf(
        {
          model: { type: 'string' },
          scores: { type: 'object', additionalProperties: ROW },
          weights: { type: 'object', additionalProperties: { type: 'number' } },
        },
        ['model', 'scores', 'weights'],
      ),
      example: {
        model: manifest.id,
        scores: { dense: [0.8, 0.3], weighted: [0.8, 0.3] },
        weights: { dense: 1 },
      },
    },
    async answer(call, { query, texts, ...asked }) {
      const { heads, weights } = headsAndWeights(asked, context.heads());
      const { scores, result } = await encodeAndScore(context, call, {
        heads,
        weights,
        query: { text: query, field: 'query' },
        firstInputType: 'query',
        texts: { texts, field: 'texts' },
        inputType: 'passage',
        ...scoredTokensOf(asked, manifest, limits.truncate),
      });
      const reply = {
        model: manifest.id,
        scores: { weighted: scores.weighted, ...Object.fromEntries(scores.byHead) },
        weights: Object.fromEntries(heads.map((head, at) => [head, weights[at]])),
      };
      return valueReply(call, reply, toldHeaders(result));
    },
  });
}
