/** `sparse_tokens` of `POST /encode`: the pieces, looked up in the tokenizer's own file. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { readHeads } from './heads-reply.ts';
import { smallHeadsHarness } from './small-heads-harness.ts';

setDefaultTimeout(60_000);

const TOKENIZER = join(import.meta.dir, '../../../models/multilingual-e5-small/tokenizer.json');

describe('sparse_tokens', () => {
  const harness = smallHeadsHarness({ backend: 'embedded' });
  let vocabulary: readonly (readonly [string, number])[];

  beforeAll(async () => {
    vocabulary = (await Bun.file(TOKENIZER).json()).model.vocab;
  });

  test.each(['application/json', 'application/msgpack', 'application/msgpack; dtype=float16'])(
    'stand beside the ids, %s',
    async (accept) => {
      const query = harness.golden.texts.map(({ text }) => text);
      const body = { query, outputs: ['dense', 'sparse'], sparse_tokens: true };
      const { texts } = await readHeads(await harness.post('/encode', body, accept));
      for (const { sparse, tokens } of texts) {
        expect(sparse?.indices.length).toBeGreaterThan(0);
        expect(tokens).toEqual(sparse?.indices.map((id) => vocabulary[id][0]));
      }
      // Not only what stands at some id: it is what the text says.
      const joined = texts.map(({ tokens = [] }) => tokens.join(' '));
      expect(joined[8]).toBe('▁договор');
      expect(joined[1]).toContain('▁давно');
    },
  );

  test('are left out unless they are asked for', async () => {
    for (const more of [{}, { sparse_tokens: false }, { sparse_tokens: null }]) {
      const body = { query: 'договор', outputs: ['sparse'], ...more };
      const reply = await (await harness.post('/encode', body)).json();
      expect(Object.keys(reply.sparse)).toEqual(['indices', 'values']);
    }
  });

  test.each([
    [{ outputs: ['dense'], sparse_tokens: true }, 'sparse_tokens is true, but outputs does not'],
    [{ sparse_tokens: true }, 'sparse_tokens is true, but outputs does not'],
    [{ outputs: ['sparse'], sparse_tokens: 1 }, 'sparse_tokens must be true or false, not 1.'],
  ])('%j is refused', async (fields, words) => {
    const reply = await harness.post('/encode', { query: 'a', ...fields });
    const { error } = (await reply.json()) as { error: { message: string } };
    expect(error).toMatchObject({ code: 'EMB_FIELD_INVALID', field: 'sparse_tokens' });
    expect(error.message).toContain(words);
  });
});
