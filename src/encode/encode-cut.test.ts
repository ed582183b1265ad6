import { expect, test } from 'bun:test';
import type { EncodeRequest, Parts } from './contract.ts';
import { cutToRequest } from './encode.ts';

const parts = { manifest: { tokenCountMax: 8 } } as Parts;

/** As the tokenizer gives a text: 0 opens it, 2 closes it. */
const textOf = (...middle: number[]) => {
  const tokenIds = Int32Array.of(0, ...middle, 2);
  return { tokenIds, tokenCount: tokenIds.length, isTruncated: false };
};

const cutBy = (limits: Partial<EncodeRequest>, texts = [textOf(5, 6, 7), textOf(5, 6, 7)]) =>
  cutToRequest(parts, limits as EncodeRequest, texts).map((text) => [...text.tokenIds]);

test.each([
  ['right', { tokenCountMax: 3 }, [0, 5, 2], [0, 5, 2]],
  ['left', { tokenCountMax: 3, truncationSide: 'left' }, [0, 7, 2], [0, 7, 2]],
  ['the first alone', { firstTokenCountMax: 4 }, [0, 5, 6, 2], [0, 5, 6, 7, 2]],
  ['all but the first', { tokenCountMax: 4, firstTokenCountMax: 8 }, [0, 5, 6, 7, 2], [0, 5, 6, 2]],
  ['exactly full', { tokenCountMax: 5 }, [0, 5, 6, 7, 2], [0, 5, 6, 7, 2]],
] as const)('the special tokens stay around what is kept: %s', (_what, limits, first, second) => {
  expect(cutBy(limits)).toEqual([[...first], [...second]]);
});

test('a cut text is told with the tokens that it had; another one is not copied', () => {
  const texts = [textOf(5), textOf(5, 6, 7)];
  const cut = cutToRequest(parts, { tokenCountMax: 4 } as EncodeRequest, texts);
  expect(cut[0]).toBe(texts[0]);
  expect(cut[1]).toMatchObject({ tokenCount: 5, isTruncated: true });
  expect(texts[1].tokenIds.length).toBe(5);
  expect(cutToRequest(parts, {} as EncodeRequest, texts)).toBe(texts);
});
