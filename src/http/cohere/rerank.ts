import type { PostRoute } from '../api.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf } from '../document.ts';
import {
  BOOLEAN,
  type Field,
  integer,
  invalid,
  mapOf,
  missing,
  optional,
  STRING,
} from '../fields.ts';
import { modelField } from '../model-field.ts';
import { toldHeaders, usedTokenCount, valueReply } from '../response.ts';
import { encodeAndScore, headsAndWeights, scoringFields } from '../scoring.ts';
import { TEXT, textList } from '../text-fields.ts';
import { scoredTokensFields, scoredTokensOf, tokenLimit } from '../vector-fields.ts';

/**
 * The call that Cohere, Jina, vLLM, Infinity and Voyage name rerank: `documents` by their score
 * against `query`, best first. The reply has the fields that each of their clients reads.
 *
 * The score is the weighted mean of the heads that the model has, as on `/score`. Their clients
 * expect it in [0, 1], so `relevance_score` is held within that; the order is that of the score
 * itself.
 */
export function rerankCall(context: ApiContext) {
  const { manifest, limits } = context;
  const fields = rerankFields(context);
  const call: PostRoute<typeof fields> = {
    fields,
    formats: 'values',
    summary: 'Documents by their score against a query, best first',
    description:
      'The score is the weighted mean of the heads that the model has, as on /score, held within ' +
      '[0, 1].',
    examples: {
      legal: { query: 'исковая давность', documents: ['срок давности', 'борщ'], top_n: 1 },
    },
    reply: {
      description: 'Documents by descending score. `data` is `results` in the words of Voyage.',
      schema: objectOf(
        {
          id: { type: 'string' },
          model: { type: 'string' },
          results: listOf(
            objectOf(
              {
                index: { type: 'integer' },
                relevance_score: { type: 'number' },
                document: { type: 'object' },
              },
              ['index', 'relevance_score'],
            ),
          ),
          usage: { type: 'object' },
          meta: { type: 'object' },
        },
        ['id', 'model', 'results', 'usage', 'meta'],
      ),
      example: { model: manifest.id, results: [{ index: 0, relevance_score: 0.81 }] },
    },
    statuses: limits.strictModel ? [404] : [],
    async answer(asked, body) {
      const { query, documents: texts, top_n, top_k, return_documents, truncation } = body;
      const max_text_tokens = body.max_text_tokens ?? body.max_tokens_per_doc;
      const asksFor = { ...body, max_text_tokens, truncate: truncation };
      const tokenLimits = scoredTokensOf(asksFor, manifest, limits.truncate);
      const { heads, weights } = headsAndWeights(body, context.heads());
      const { scores, result } = await encodeAndScore(context, asked, {
        heads,
        weights,
        truncationSide: 'right',
        query: { text: query, field: 'query' },
        firstInputType: 'query',
        texts: { texts, field: 'documents' },
        inputType: 'passage',
        ...tokenLimits,
      });
      const results = scores.weighted
        .map((score, index) => ({ index, score }))
        .sort((a, b) => b.score - a.score || a.index - b.index)
        .slice(0, top_n || top_k || texts.length)
        .map(({ index, score }) => ({
          index,
          relevance_score: body.raw_scores ? score : Math.min(1, Math.max(0, score)),
          ...(return_documents ? { document: { text: texts[index] } } : {}),
        }));
      const { firstTokenCountMax = manifest.tokenCountMax } = tokenLimits;
      const [queryTokens, ...textTokens] = result.tokenCounts;
      const tokenCount =
        usedTokenCount([queryTokens], firstTokenCountMax) +
        usedTokenCount(textTokens, max_text_tokens ?? manifest.tokenCountMax);
      // Voyage's clients alone send one of these, and read `data`. Infinity's want `rerank`.
      const isVoyage = truncation !== undefined || top_k !== undefined;
      const reply = {
        id: asked.requestId,
        object: isVoyage ? 'list' : 'rerank',
        model: manifest.id,
        results,
        ...(isVoyage ? { data: results } : {}),
        ...(body.property === undefined ? {} : scoresForWeaviate(results, body)),
        usage: { prompt_tokens: tokenCount, total_tokens: tokenCount },
        meta: {
          api_version: { version: '2' },
          billed_units: { search_units: 1, input_tokens: tokenCount },
        },
      };
      return valueReply(asked, reply, toldHeaders(result));
    },
  };
  return call;
}

/** What Weaviate's module reranker-transformers reads, and nothing else. */
function scoresForWeaviate(
  results: readonly { readonly index: number; readonly relevance_score: number }[],
  { query, documents }: { readonly query: string; readonly documents: readonly string[] },
) {
  const scores = results.map(({ index, relevance_score: score }) => ({
    document: documents[index],
    score,
  }));
  return { query, scores };
}

function rerankFields(context: ApiContext) {
  const { manifest, limits } = context;
  const topCount = optional(
    integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    'How many of the best are answered; all unless told, and for 0.',
  );
  return {
    model: optional(modelField(context)),
    query: QUERY,
    documents: documents(limits.requestTextsMax),
    top_n: topCount,
    top_k: topCount,
    return_documents: optional(BOOLEAN),
    // Cut texts are cut at the model's own limit; Voyage's word for a refusal instead is false.
    truncation: optional(BOOLEAN),
    property: optional(STRING, 'Sent by Weaviate alone, for which the reply has `scores`.'),
    raw_scores: optional(BOOLEAN, 'The score as it is, not held within [0, 1].'),
    ...scoredTokensFields(manifest),
    max_tokens_per_doc: optional(
      tokenLimit(
        manifest,
        `Cohere's word for max_text_tokens; ${manifest.tokenCountMax} unless told, as for more.`,
      ),
    ),
    ...scoringFields(context),
  };
}

/** A string, or Jina's `{"text"}`. */
const QUERY: Field<string> = {
  schema: { oneOf: [TEXT.schema, objectOf({ text: TEXT.schema }, ['text'])] },
  isRequired: true,
  read: (value, at) =>
    typeof value === 'object' && value !== null ? textIn(value, at) : TEXT.read(value, at),
};

/** Strings, or objects with a `text`. */
function documents(textCountMax: number): Field<readonly string[]> {
  const list = textList(textCountMax);
  const item = { oneOf: [TEXT.schema, objectOf({ text: TEXT.schema }, ['text'])] };
  return {
    schema: { type: 'array', items: item, minItems: 1, maxItems: textCountMax },
    isRequired: true,
    read(value, at) {
      if (value === undefined) throw missing(at);
      if (!Array.isArray(value)) throw invalid(at, 'an array of strings', value);
      // What is too long as a list is refused before its items are looked at.
      if (value.length > textCountMax) return list.read(value, at);
      const texts = value.map((item: unknown, index) =>
        typeof item === 'string' ? item : textIn(item, `${at}[${index}]`),
      );
      return list.read(texts, at);
    },
  };
}

function textIn(value: unknown, at: string): string {
  return TEXT.read(mapOf(value, at).text, `${at}.text`);
}
