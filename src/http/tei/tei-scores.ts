import { headSet } from '../../vectors/output.ts';
import { type PostRoute, post, type Route } from '../api.ts';
import { rerankCall } from '../cohere/rerank.ts';
import type { ApiContext } from '../context.ts';
import { listOf, objectOf, ROW } from '../document.ts';
import { BOOLEAN, object, optional, withDefault } from '../fields.ts';
import { valueReply } from '../response.ts';
import { encodeAndScore, headsAndWeights, scoringFields } from '../scoring.ts';
import { TEXT, textList } from '../text-fields.ts';
import { inputTypeInHeader, scoredTokensFields, scoredTokensOf } from '../vector-fields.ts';
import {
  computeHeaders,
  PROMPT_NAME,
  truncationFields,
  truncationOf,
  truncationSideOf,
} from './tei-request.ts';

/** The routes of text-embeddings-inference that score: `POST /similarity` and `POST /rerank`. */
export function scoreRoutes(context: ApiContext): readonly Route[] {
  return [post(context, '/similarity', similarityCall(context)), rerankRoute(context)];
}

/** Cosines of one sentence with others, as an array of numbers. */
export function similarityCall(context: ApiContext) {
  const { limits } = context;
  const fields = {
    inputs: object({ source_sentence: TEXT, sentences: textList(limits.requestTextsMax) }),
    parameters: object({ ...truncationFields(context), prompt_name: PROMPT_NAME }),
  };
  const call: PostRoute<typeof fields> = {
    fields,
    formats: 'values',
    summary: 'Cosines of one sentence with others',
    examples: { legal: { inputs: { source_sentence: 'исковая давность', sentences: ['борщ'] } } },
    reply: {
      description: 'One cosine for each sentence, in order.',
      schema: ROW,
      example: [0.81],
    },
    async answer(call, { inputs: { source_sentence: source, sentences }, parameters }) {
      const { scores, result } = await encodeAndScore(context, call, {
        heads: headSet(['dense']),
        weights: [1],
        ...truncationOf(parameters),
        query: { text: source, field: 'inputs.source_sentence' },
        firstInputType: parameters.prompt_name ?? inputTypeInHeader(call.request),
        texts: { texts: sentences, field: 'inputs.sentences' },
        inputType: parameters.prompt_name ?? inputTypeInHeader(call.request),
      });
      const work = { texts: [source, ...sentences], result };
      return valueReply(call, scores.weighted, computeHeaders(context, call, work));
    },
  };
  return call;
}

/**
 * Texts by their score against a query, best first. The score is the weighted mean of the heads
 * that the model has, as on `/score`, and takes its `outputs` and `weights` too. It is a similarity
 * already, so `raw_scores` changes nothing.
 */
function rerankRoute(context: ApiContext): Route {
  const { limits, manifest } = context;
  const fields = {
    query: TEXT,
    texts: textList(limits.requestTextsMax),
    raw_scores: optional(BOOLEAN),
    return_text: withDefault(BOOLEAN, false),
    ...scoringFields(context),
    ...scoredTokensFields(manifest),
    ...truncationFields(context),
    truncate: optional(BOOLEAN),
  };
  const call: PostRoute<typeof fields> = {
    fields,
    formats: 'values',
    summary: 'Texts by their score against a query, best first',
    description:
      'The score is the weighted mean of the heads that the model has, as on /score. It is a ' +
      'similarity: `raw_scores` changes nothing.',
    examples: { legal: { query: 'исковая давность', texts: ['срок давности', 'борщ'] } },
    reply: {
      description: 'Texts by descending score.',
      schema: listOf(
        objectOf(
          { index: { type: 'integer' }, text: { type: 'string' }, score: { type: 'number' } },
          ['index', 'score'],
        ),
      ),
      example: [{ index: 0, score: 0.81 }],
    },
    async answer(call, { query, texts, return_text, ...asked }) {
      const { heads, weights } = headsAndWeights(asked, context.heads());
      const { scores, result } = await encodeAndScore(context, call, {
        heads,
        weights,
        truncationSide: truncationSideOf(asked),
        ...scoredTokensOf(asked, manifest, limits.truncate),
        query: { text: query, field: 'query' },
        firstInputType: 'query',
        texts: { texts, field: 'texts' },
        inputType: 'passage',
      });
      const ranks = scores.weighted
        .map((score, index) => ({ index, ...(return_text ? { text: texts[index] } : {}), score }))
        .sort((a, b) => b.score - a.score || a.index - b.index);
      const work = { texts: [query, ...texts], result };
      return valueReply(call, ranks, computeHeaders(context, call, work));
    },
  };
  // Other servers and their clients say `documents`.
  const isAsked = (body: unknown): boolean =>
    typeof body === 'object' && body !== null && 'documents' in body && !('texts' in body);
  return post(context, '/rerank', call, { isAsked, route: rerankCall(context) });
}
