/**
 * `POST /score` against the published formulas over PyTorch's answers.
 *
 * Faults that were planted in the code by hand, and that this suite caught: weights that are not
 * divided by their sum; the texts scored against themselves.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { unpack } from 'msgpackr';
import type { Head } from '../../vectors/output.ts';
import { smallHeadsHarness } from './small-heads-harness.ts';

setDefaultTimeout(60_000);

const HEADS: readonly Head[] = ['dense', 'sparse', 'multi_vector'];

interface ScoreReply {
  readonly model: string;
  readonly scores: Readonly<Record<Head | 'weighted', readonly number[]>>;
  readonly weights: Readonly<Record<Head, number>>;
}

describe.each(['triton', 'embedded'] as const)('%s', (backend) => {
  const harness = smallHeadsHarness({ backend });

  async function score(body: object, accept?: string): Promise<ScoreReply> {
    const reply = await harness.post('/score', body, accept);
    expect(reply.status).toBe(200);
    if (accept === undefined) return (await reply.json()) as ScoreReply;
    return unpack(await reply.bytes());
  }

  test.each([undefined, 'application/msgpack'])(
    'the formulas within 1e-5, accept %s',
    async (accept) => {
      const { texts, scores } = harness.golden;
      const [dense, sparse, multi_vector] = scores.weights;
      for (const query of new Set(scores.pairs.map((pair) => pair.query))) {
        const pairs = scores.pairs.filter((pair) => pair.query === query);
        const body = {
          query: texts[query].text,
          texts: pairs.map((pair) => texts[pair.text].text),
          weights: { dense, sparse, multi_vector },
        };
        const reply = await score(body, accept);
        expect(reply.model).toBe('small');
        expect(reply.weights).toEqual({ dense, sparse, multi_vector });
        for (const name of [...HEADS, 'weighted'] as const) {
          expect(reply.scores[name].length).toBe(pairs.length);
          pairs.forEach((pair, at) => {
            expect(Math.abs(reply.scores[name][at] - pair[name])).toBeLessThan(1e-5);
          });
        }
      }
    },
  );

  test('of the heads that are asked for, weighing one each unless told', async () => {
    const { texts, scores } = harness.golden;
    const [pair] = scores.pairs;
    const body = { query: texts[pair.query].text, texts: [texts[pair.text].text] };
    const two = await score({ ...body, outputs: ['multi_vector', 'dense'] });
    expect(Object.keys(two.scores).toSorted()).toEqual(['dense', 'multi_vector', 'weighted']);
    expect(Object.entries(two.weights)).toEqual([
      ['dense', 1],
      ['multi_vector', 1],
    ]);
    expect(two.scores.weighted[0]).toBeCloseTo((pair.dense + pair.multi_vector) / 2, 5);
    const one = await score({ ...body, weights: { sparse: 5 } });
    expect(one.weights).toEqual({ dense: 0, sparse: 5, multi_vector: 0 });
    expect(one.scores.weighted[0]).toBeCloseTo(pair.sparse, 5);
  });

  /** The middle of a text by its tokens: what stands between the special ones. */
  async function middleOf(text: string): Promise<number[]> {
    const body = { inputs: text, add_special_tokens: false };
    const [tokens] = (await (await harness.post('/tokenize', body)).json()) as { id: number }[][];
    return tokens.map(({ id }) => id);
  }

  test('cut to the tokens asked for: the first ones, and the closing special token', async () => {
    const words = 'договор аренды жилого помещения между сторонами и расторжение договора';
    const kept = 7;
    const ids = (await middleOf(words)).slice(0, kept - 2);
    const decoded = await harness.post('/decode', { ids: [ids] });
    const [start] = (await decoded.json()) as string[];
    // The text of the tokens that are kept has those tokens, so it is the cut text itself.
    expect(await middleOf(start)).toEqual(ids);
    const other = 'срок договора аренды';
    const pairs = [
      { whole: [words, other], cut: [start, other], limits: { max_query_tokens: kept } },
      { whole: [other, words], cut: [other, start], limits: { max_text_tokens: kept } },
    ];
    for (const { whole, cut, limits } of pairs) {
      const expected = await score({ query: cut[0], texts: [cut[1]] });
      const body = { query: whole[0], texts: [whole[1]] };
      const reply = await harness.post('/score', { ...body, ...limits });
      expect(reply.headers.get('x-truncated-count')).toBe('1');
      const { scores } = (await reply.json()) as ScoreReply;
      const uncut = await score(body);
      for (const name of [...HEADS, 'weighted'] as const) {
        expect(scores[name][0]).toBeCloseTo(expected.scores[name][0], 5);
        expect(uncut.scores[name][0]).not.toBeCloseTo(expected.scores[name][0], 3);
      }
    }
  });

  test.each([
    [
      'a text over its own limit',
      { query: 'a', texts: ['договор аренды'], max_text_tokens: 3, truncate: false },
      'EMB_TEXT_TOO_LONG',
      'texts[0]',
    ],
    [
      'fewer than 3 tokens',
      { query: 'a', texts: ['a'], max_query_tokens: 2 },
      'EMB_FIELD_INVALID',
      'max_query_tokens',
    ],
    [
      "more than the model's tokens",
      { query: 'a', texts: ['a'], max_text_tokens: 513 },
      'EMB_FIELD_INVALID',
      'max_text_tokens',
    ],
    ['no texts', { query: 'a' }, 'EMB_FIELD_MISSING', 'texts'],
    ['no query', { texts: ['a'] }, 'EMB_FIELD_MISSING', 'query'],
    ['two queries', { query: ['a', 'b'], texts: ['a'] }, 'EMB_FIELD_INVALID', 'query'],
    ['an empty list', { query: 'a', texts: [] }, 'EMB_TEXT_EMPTY', 'texts'],
    [
      'a head unknown',
      { query: 'a', texts: ['a'], outputs: ['colbert'] },
      'EMB_FIELD_INVALID',
      'outputs[0]',
    ],
    [
      'weights negative',
      { query: 'a', texts: ['a'], weights: { dense: -1 } },
      'EMB_FIELD_INVALID',
      'weights.dense',
    ],
    [
      'weights all 0',
      { query: 'a', texts: ['a'], weights: { dense: 0 } },
      'EMB_FIELD_INVALID',
      'weights',
    ],
    [
      'a text too long',
      { query: 'a', texts: ['a', 'договор '.repeat(600)], truncate: false },
      'EMB_TEXT_TOO_LONG',
      'texts[1]',
    ],
  ])('%s is refused by name', async (_what, body, code, field) => {
    const reply = await harness.post('/score', body);
    expect((await reply.json()).error).toMatchObject({ code, field });
    expect(reply.status).toBe(422);
  });

  test('raw bytes carry no scores', async () => {
    const reply = await harness.post(
      '/score',
      { query: 'a', texts: ['a'] },
      'application/octet-stream',
    );
    expect(reply.status).toBe(406);
    expect((await reply.json()).error).toMatchObject({ field: 'accept' });
  });
});
