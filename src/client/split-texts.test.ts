import { describe, expect, test } from 'bun:test';
import { seededRandom } from '../testing/seeded-random.ts';
import { APIEncoderError } from './api-encoder-error.ts';
import { checkText, splitTexts } from './split-texts.ts';

async function split(texts: readonly string[], textsMax: number, charactersMax: number) {
  const chunks: { start: number; texts: readonly string[] }[] = [];
  const limits = { requestTextsMax: textsMax, requestCharactersMax: charactersMax };
  for await (const chunk of splitTexts(texts, limits)) chunks.push(chunk);
  return chunks;
}

describe('splitTexts', () => {
  test('cuts by count', async () => {
    expect(await split(['a', 'b', 'c', 'd', 'e'], 2, 100)).toEqual([
      { start: 0, texts: ['a', 'b'] },
      { start: 2, texts: ['c', 'd'] },
      { start: 4, texts: ['e'] },
    ]);
  });

  test('cuts by characters; a text over the limit rides alone', async () => {
    expect(await split(['aaa', 'bb', 'cccccccc', 'd', 'e'], 100, 5)).toEqual([
      { start: 0, texts: ['aaa', 'bb'] },
      { start: 2, texts: ['cccccccc'] },
      { start: 3, texts: ['d', 'e'] },
    ]);
  });

  test('of no texts makes no request', async () => {
    expect(await split([], 2, 100)).toEqual([]);
  });

  // Planted and caught: `>=` for `>` in the character limit, `start` not moved on, the last chunk
  // forgotten.
  test('loses nothing, keeps the order, fills each request as far as it may', async () => {
    const random = seededRandom(7);
    for (let round = 0; round < 300; round++) {
      const textsMax = random.between(1, 6);
      const charactersMax = random.between(1, 30);
      const count = random.between(0, 40);
      const texts = Array.from({ length: count }, () => 'x'.repeat(random.between(1, 20)));
      const chunks = await split(texts, textsMax, charactersMax);
      expect(chunks.flatMap((chunk) => chunk.texts)).toEqual(texts);
      let start = 0;
      for (const chunk of chunks) {
        expect(chunk.start).toBe(start);
        start += chunk.texts.length;
        const characters = chunk.texts.join('').length;
        expect(chunk.texts.length).toBeLessThanOrEqual(textsMax);
        if (chunk.texts.length > 1) expect(characters).toBeLessThanOrEqual(charactersMax);
        const next = texts.at(start);
        const couldTakeMore =
          start < texts.length &&
          chunk.texts.length < textsMax &&
          characters + (next?.length ?? 0) <= charactersMax;
        expect(couldTakeMore).toBe(false);
      }
    }
  });

  test('pulls no text before it is asked', async () => {
    let pulledCount = 0;
    function* source(): Generator<string> {
      while (true) {
        pulledCount++;
        yield 'a';
      }
    }
    const chunks = splitTexts(source(), { requestTextsMax: 10, requestCharactersMax: 100 });
    expect(pulledCount).toBe(0);
    await chunks.next();
    // The eleventh showed that the request was full.
    expect(pulledCount).toBe(11);
    await chunks.return();
  });
});

describe('checkText', () => {
  test.each<[unknown, string, string]>([
    [5, 'CLIENT_ARGUMENT_INVALID', 'texts[2] must be a string, not number.'],
    [null, 'CLIENT_ARGUMENT_INVALID', 'texts[2] must be a string, not null.'],
    [
      'a\ud800',
      'EMB_TEXT_NOT_UNICODE',
      'texts[2] has half of a surrogate pair; it is no Unicode text.',
    ],
  ])('%p is %s', (text, code, message) => {
    let thrown: unknown;
    try {
      checkText(text, 'texts[2]');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(APIEncoderError);
    expect(thrown).toMatchObject({ code, message, field: 'texts[2]', retryable: false });
  });

  test('a whole surrogate pair is a text', () => {
    expect(() => checkText('⚖️ 😀', 'text')).not.toThrow();
  });
});
