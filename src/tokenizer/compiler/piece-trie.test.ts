import { describe, expect, test } from 'bun:test';
import { createRandom } from '../../testing/tokenizer-texts.ts';
import { PIECE_BITS, PIECE_NONE } from '../xlmr/route.ts';
import { buildPieceTrie, packDoubleArray } from './piece-trie.ts';

/** The piece that the packed trie finds along the codes, or `PIECE_NONE`. */
function find(packed: Int32Array, codes: readonly number[]): number {
  let base = 0;
  let piece: number = PIECE_NONE;
  for (const [depth, code] of codes.entries()) {
    if (depth > 0 && base === 0) return PIECE_NONE;
    const slot = (base + code) * 2;
    const word = packed[slot + 1];
    if (word >>> PIECE_BITS !== code) return PIECE_NONE;
    piece = word & PIECE_NONE;
    base = packed[slot];
  }
  return piece;
}

function randomKeys(seed: number, alphabetSize: number, count: number): number[][] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => {
    const length = 1 + Math.floor(random() ** 2 * 7);
    return Array.from({ length }, () => 1 + Math.floor(random() ** 3 * alphabetSize));
  });
}

describe('the packed trie', () => {
  test.each([
    [1, 3, 60],
    [2, 40, 3_000],
    [3, 2_000, 20_000],
    [4, 1, 5],
  ])('finds every piece and no other (seed %d, %d codes, %d keys)', (seed, alphabetSize, count) => {
    const keys = randomKeys(seed, alphabetSize, count);
    const expected = new Map(keys.map((key, id) => [key.join(), id]));
    const trie = buildPieceTrie(keys.map((key) => Uint16Array.from(key)));
    const packed = packDoubleArray(trie, alphabetSize + 1);
    for (const key of keys) {
      expect(find(packed, key)).toBe(expected.get(key.join()) ?? -1);
      for (let end = 1; end < key.length; end++) {
        const prefix = key.slice(0, end);
        expect(find(packed, prefix)).toBe(expected.get(prefix.join()) ?? PIECE_NONE);
      }
    }
    for (const key of randomKeys(seed + 100, alphabetSize, count)) {
      expect(find(packed, key)).toBe(expected.get(key.join()) ?? PIECE_NONE);
      expect(find(packed, [0, ...key])).toBe(PIECE_NONE);
      expect(find(packed, [...key, 0])).toBe(PIECE_NONE);
    }
  });

  test('wastes little', () => {
    const keys = randomKeys(9, 3_000, 50_000);
    const trie = buildPieceTrie(keys.map((key) => Uint16Array.from(key)));
    const slots = packDoubleArray(trie, 3_001).length / 2;
    expect(slots).toBeLessThan(trie.nodeCount * 1.1 + 6_000);
  });
});
