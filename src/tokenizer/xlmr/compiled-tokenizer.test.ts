import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import { InvariantError } from '../../base/errors.ts';
import { legalProse, legalQueries } from '../../testing/legal-prose.ts';
import { openRealTokenizers } from '../../testing/real-tokenizer.ts';
import { compareTokenizers } from '../../testing/tokenizer-comparison.ts';
import { randomText } from '../../testing/tokenizer-texts.ts';
import { createTokenIds } from './unigram-search.ts';

/**
 * Against the reference, on the real vocabulary. Faults that these have caught when planted: a
 * cluster limit of six bytes, `>=` for `>` in the search, scores read as the nearest double, no
 * comparison of codes in the word cache, CR LF as two spaces, U+FEFF as white space before
 * `<mask>`, removed characters not skipped in offsets, no regard for a prepended mark, for a
 * pictograph after a joiner, for a linked consonant, the wrong side cut off.
 */
setDefaultTimeout(60_000);

const { tokenizer, reference } = await openRealTokenizers();

const ALL = { tokenCountMax: 1 << 30, truncationSide: 'right', specialTokens: true } as const;

function idsOf(text: string, options: Partial<Parameters<typeof tokenizer.encode>[1]> = {}) {
  const out = createTokenIds(1);
  const counts = tokenizer.encode(text, { ...ALL, ...options, out });
  return { ...counts, ids: [...out.ids.subarray(0, out.length)] };
}

describe('the reference says the same', () => {
  test('of the golden texts', async () => {
    const path = join(import.meta.dir, '../../testing/golden/tokens.jsonl');
    const lines = (await Bun.file(path).text()).trim().split('\n');
    const golden: { text: string; ids: number[] }[] = lines.map((line) => JSON.parse(line));
    expect(golden).toHaveLength(66);
    for (const { text, ids } of golden) expect(idsOf(text).ids).toEqual(ids);
    const texts = golden.map(({ text }) => text);
    expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
  });

  test('of Russian and English prose, and of queries', async () => {
    const pages = (['russian', 'english'] as const).flatMap((language) =>
      legalProse({ language, lengthMin: 6_000, count: 20, seed: 7 }),
    );
    const texts = [...pages, ...legalQueries({ count: 2_000, seed: 7 })];
    expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
  });

  test('of every assigned code point, alone and between letters', async () => {
    const planes: [number, number][] = [
      [0, 0xd800],
      [0xe000, 0x32400],
      [0xe0000, 0xe0200],
      [0x10ff00, 0x110000],
    ];
    const texts: string[] = [];
    for (const [first, last] of planes) {
      for (let start = first; start < last; start += 256) {
        const all = Array.from({ length: 256 }, (_, index) => String.fromCodePoint(start + index));
        texts.push(all.join(' '), all.map((character) => `a${character}b`).join(' '));
      }
    }
    expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
  });

  test('of 20,000 random texts', async () => {
    for (let seed = 0; seed < 20_000; seed += 2_000) {
      const texts = Array.from({ length: 2_000 }, (_, index) => randomText(seed + index));
      expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
    }
  });

  test('of truncated texts', async () => {
    const texts = Array.from({ length: 1_000 }, (_, index) => randomText(40_000 + index));
    for (const side of ['left', 'right'] as const) {
      for (const specialTokens of [true, false]) {
        for (const tokenCountMax of [2, 3, 7, 30]) {
          const options = { specialTokens, truncation: { tokenCountMax, side } };
          expect(await compareTokenizers(tokenizer, reference, texts, options)).toEqual([]);
        }
      }
    }
  });

  test('of a tie that the last bit of a score decides', async () => {
    // With scores read as the nearest doubles the sums are equal wherever the odd letter stands, and
    // it comes first. As the reference reads them, one sum is larger in its last bit.
    const texts = ['\u0327', 'x', '1'].map((start) => start + 'а'.repeat(37));
    expect(await compareTokenizers(tokenizer, reference, texts)).toEqual([]);
  });

  test('of ids, decoded', async () => {
    for (let seed = 0; seed < 200; seed++) {
      const { ids } = idsOf(randomText(70_000 + seed));
      for (const skipSpecialTokens of [true, false]) {
        const expected = await reference.decode(ids, { skipSpecialTokens });
        expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(expected);
      }
    }
  });

  test('of ids outside the vocabulary, decoded', async () => {
    const ids = [0, 250_002, 252, 4_000_000, 35378, 1, 250_001, 2];
    for (const skipSpecialTokens of [true, false]) {
      const expected = await reference.decode(ids, { skipSpecialTokens });
      expect(tokenizer.decode(ids, { skipSpecialTokens })).toBe(expected);
    }
  });
});

describe('encode', () => {
  test('appends behind what is there, and grows', () => {
    const out = createTokenIds(1);
    out.ids[0] = 77;
    out.length = 1;
    const first = tokenizer.encode('Привет, мир', { ...ALL, out });
    const second = tokenizer.encode('', { ...ALL, out });
    expect(second).toEqual({ keptCount: 2, fullCount: 2 });
    expect([...out.ids.subarray(0, out.length)]).toEqual([77, ...idsOf('Привет, мир').ids, 0, 2]);
    expect(first.keptCount).toBe(out.length - 3);
  });

  test('tells the full count of a truncated text', () => {
    const text = 'Обязательства должны исполняться надлежащим образом.';
    const full = idsOf(text);
    for (const truncationSide of ['left', 'right'] as const) {
      const cut = idsOf(text, { tokenCountMax: 5, truncationSide });
      expect(cut.keptCount).toBe(5);
      expect(cut.fullCount).toBe(full.ids.length);
    }
  });

  test('takes a lone surrogate for U+FFFD', () => {
    for (const lone of [
      '\ud83d',
      '\ude00',
      'a\ud83d',
      '\ud83dа',
      'x\ude00\u0301',
      '\ud83d\ud83d',
    ]) {
      const replaced = lone.toWellFormed();
      expect(idsOf(lone)).toEqual(idsOf(replaced));
      expect(tokenizer.encodeWithOffsets(lone, ALL)).toEqual(
        tokenizer.encodeWithOffsets(replaced, ALL),
      );
    }
  });

  test('gives the same ids after a text of a million characters', () => {
    const before = idsOf('Статья 10').ids;
    for (const long of ['а'.repeat(1 << 20), '\u0301'.repeat(1 << 20), '▁'.repeat(1 << 20)]) {
      expect(idsOf(long).fullCount).toBeGreaterThan(2);
    }
    expect(idsOf('Статья 10').ids).toEqual(before);
  });

  test('refuses a limit without room for the template', () => {
    expect(() => idsOf('a', { tokenCountMax: 1 })).toThrow(InvariantError);
    expect(idsOf('a', { tokenCountMax: 0, specialTokens: false })).toMatchObject({ ids: [] });
  });
});

test('pieces and special ids', () => {
  expect(tokenizer.vocabularySize).toBe(250_002);
  expect(tokenizer.templateCount).toBe(2);
  expect(tokenizer.pieceOf(0)).toBe('<s>');
  expect(tokenizer.pieceOf(6)).toBe('▁');
  expect(tokenizer.pieceOf(250_001)).toBe('<mask>');
  expect(tokenizer.pieceOf(250_002)).toBeNull();
  expect(tokenizer.pieceOf(-1)).toBeNull();
  expect(tokenizer.pieceOf(1.5)).toBeNull();
  expect([0, 1, 2, 3, 250_001].every(tokenizer.isSpecial)).toBe(true);
  expect([4, 6, 250_000, 250_002].some(tokenizer.isSpecial)).toBe(false);
});
