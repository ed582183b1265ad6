import { type ApiContext, post, type Route } from '../api.ts';
import { objectOf, ROW } from '../document.ts';
import { BOOLEAN, withDefault } from '../fields.ts';
import { valueReply } from '../response.ts';
import { encodeAndScore, headsAndWeights, scoringFields } from '../scoring.ts';
import { TEXT, textList } from '../text-fields.ts';

/** `POST /score`: texts against a query by each head, and the weighted mean. */
export function scoreRoute(context: ApiContext): Route {
  const { manifest, limits } = context;
  const fields = {
    ...scoringFields(context),
    truncate: withDefault(
      BOOLEAN,
      limits.truncate,
      'Cut texts that are too long (true), or refuse them (false).',
    ),
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
      description: 'One score a text and head, and their weighted mean.',
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
    async answer(call, { query, texts, truncate, ...asked }) {
      const { heads, weights } = headsAndWeights(asked, context.heads());
      const { scores } = await encodeAndScore(context, call.request, {
        heads,
        weights,
        truncate,
        query: { text: query, field: 'query' },
        firstInputType: 'query',
        texts: { texts, field: 'texts' },
        inputType: 'passage',
      });
      return valueReply(call, {
        model: manifest.id,
        scores: { weighted: scores.weighted, ...Object.fromEntries(scores.byHead) },
        weights: Object.fromEntries(heads.map((head, at) => [head, weights[at]])),
      });
    },
  });
}
