import { describe, expect, test } from 'bun:test';
import { InvariantError } from '../base/invariant.ts';
import { seededRandom } from '../testing/seeded-random.ts';
import { headSet } from '../vectors/head.ts';
import { writeTokenTensors } from './token-tensors.ts';

const HEADS = headSet(['dense']);
const PAD_ID = 1;

/** The tensors of a batch, read back as numbers; the buffers start full of rubbish. */
function written(texts: readonly number[][], paddedLength: number, wordsPerValue: 1 | 2) {
  const wordCount = texts.length * paddedLength * wordsPerValue;
  const ids = new Int32Array(wordCount).fill(-77);
  const mask = new Int32Array(wordCount).fill(-77);
  const batch = { texts: texts.map((text) => Int32Array.from(text)), paddedLength, heads: HEADS };
  writeTokenTensors(batch, { padId: PAD_ID, wordsPerValue, ids, mask });
  const numbers = (words: Int32Array<ArrayBuffer>): number[] =>
    wordsPerValue === 1 ? [...words] : [...new BigInt64Array(words.buffer)].map(Number);
  return { ids: numbers(ids), mask: numbers(mask) };
}

describe.each([1, 2] as const)('with %d words a value', (wordsPerValue) => {
  test('ids stand first, then padding, and the mask tells them apart', () => {
    const texts = [
      [0, 9, 2],
      [0, 250_001, 8, 7, 2],
    ];
    expect(written(texts, 6, wordsPerValue)).toEqual({
      ids: [0, 9, 2, PAD_ID, PAD_ID, PAD_ID, 0, 250_001, 8, 7, 2, PAD_ID],
      mask: [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0],
    });
  });

  test('any batch reads back as it was', () => {
    const random = seededRandom(wordsPerValue);
    for (let round = 0; round < 50; round++) {
      const paddedLength = random.between(1, 40);
      const texts = Array.from({ length: random.between(1, 9) }, () =>
        Array.from({ length: random.between(1, paddedLength) }, () => random.below(250_002)),
      );
      const { ids, mask } = written(texts, paddedLength, wordsPerValue);
      const back = texts.map((_, row) =>
        ids
          .slice(row * paddedLength, (row + 1) * paddedLength)
          .filter((_id, at) => mask[row * paddedLength + at] === 1),
      );
      expect(back).toEqual(texts);
      const padding = ids.filter((_, at) => mask[at] === 0);
      expect(padding.every((id) => id === PAD_ID)).toBe(true);
    }
  });
});

test('a text that does not fit, an empty one and a wrong buffer are faults of ours', () => {
  expect(() => written([[0, 1, 2]], 2, 1)).toThrow(InvariantError);
  expect(() => written([[]], 2, 1)).toThrow(InvariantError);
  const batch = { texts: [Int32Array.of(0, 2)], paddedLength: 2, heads: HEADS };
  const [ids, mask] = [new Int32Array(2), new Int32Array(3)];
  expect(() => writeTokenTensors(batch, { padId: 1, wordsPerValue: 1, ids, mask })).toThrow(
    InvariantError,
  );
});
