/** The client's `score` and `tokenize` with the whole server, against the reference. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { APIEncoder } from '../../client/api-encoder.ts';
import { smallHeadsHarness } from './small-heads-harness.ts';

setDefaultTimeout(60_000);

describe('APIEncoder', () => {
  const harness = smallHeadsHarness({ backend: 'embedded' });

  test('scores are those of the published formulas, in requests of one text', async () => {
    const { texts, scores } = harness.golden;
    const [dense, sparse, multi_vector] = scores.weights;
    const encoder = new APIEncoder(harness.server.url, { requestTextsMax: 1 });
    for (const query of new Set(scores.pairs.map((pair) => pair.query))) {
      const pairs = scores.pairs.filter((pair) => pair.query === query);
      const found = await encoder.score(
        texts[query].text,
        pairs.map((pair) => texts[pair.text].text),
        { weights: { dense, sparse, multi_vector } },
      );
      expect(found.model).toBe('small');
      pairs.forEach((pair, at) => {
        expect(found.dense?.[at]).toBeCloseTo(pair.dense, 5);
        expect(found.sparse?.[at]).toBeCloseTo(pair.sparse, 5);
        expect(found.multiVector?.[at]).toBeCloseTo(pair.multi_vector, 5);
        expect(found.weighted[at]).toBeCloseTo(pair.weighted, 5);
      });
    }
    await encoder.close();
  });

  test("tokens are the reference tokenizer's, and each stands where it says", async () => {
    const encoder = new APIEncoder(harness.server.url);
    const { texts } = harness.golden;
    const rows = await encoder.tokenize(texts.map(({ text }) => text));
    rows.forEach((tokens, at) => {
      expect(tokens.map(({ id }) => id)).toEqual([...texts[at].ids]);
      const characters = [...texts[at].text];
      for (const { text, special, start, stop } of tokens) {
        if (special) expect([start, stop]).toEqual([null, null]);
        else expect(characters.slice(start ?? 0, stop ?? 0).join('')).toBe(text);
      }
    });
    const bare = await encoder.tokenize(texts[0].text, { addSpecialTokens: false });
    expect(bare.map(({ id }) => id)).toEqual(texts[0].ids.slice(1, -1));
    await encoder.close();
  });
});
