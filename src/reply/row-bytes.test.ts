import { describe, expect, test } from 'bun:test';
import { floatsIn, halvesIn, vectorOf } from '../testing/reply-fixtures.ts';
import { blockOf, bytesOfBlock, copyBlock } from './row-bytes.ts';

const matrix = vectorOf(40);
const other = new Float32Array(matrix.buffer.slice(0));
const rowAt = (index: number) => matrix.subarray(index * 4, index * 4 + 4);
const empty = new Float32Array(matrix.buffer, 8, 0);

/**
 * Caught, planted: rows taken as neighbours that lie in another order, with a gap, or in another
 * buffer; a view read from its buffer's start.
 */
describe('copyBlock', () => {
  test.each([
    ['no rows', []],
    ['neighbours', [rowAt(0), rowAt(1), rowAt(2)]],
    ['neighbours in the middle', [rowAt(3), rowAt(4)]],
    ['another order', [rowAt(2), rowAt(1), rowAt(0)]],
    ['a gap', [rowAt(0), rowAt(2), rowAt(3)]],
    ['a row twice', [rowAt(1), rowAt(1)]],
    ['rows that overlap', [matrix.subarray(0, 6), matrix.subarray(3, 9)]],
    ['the place of a neighbour, in another buffer', [rowAt(0), other.subarray(5, 9)]],
    ['rows of all lengths', [empty, rowAt(0), empty, matrix.subarray(4, 11), empty]],
  ])('%s', (_, rows) => {
    const expected = rows.flatMap((row) => Array.from(row));
    for (const dtype of ['float32', 'float16'] as const) {
      const block = blockOf(rows, dtype);
      const bytes = bytesOfBlock(block);
      // An odd offset: nothing in a msgpack document is aligned.
      const target = new Uint8Array(bytes + 10).fill(0xaa);
      expect(copyBlock(target, 3, block)).toBe(3 + bytes);
      const copied = target.subarray(3, 3 + bytes);
      if (dtype === 'float32') expect(floatsIn(copied)).toEqual(Float32Array.from(expected));
      else expect(halvesIn(copied)).toEqual(Float16Array.from(expected));
      expect([...target.subarray(0, 3), ...target.subarray(3 + bytes)]).toEqual(
        Array(10).fill(0xaa),
      );
    }
  });

  test('int32 goes as it is', () => {
    const indices = Int32Array.of(9, 1, -2, 250_001, 9).subarray(1, 4);
    const target = new Uint8Array(12);
    copyBlock(target, 0, { arrays: [indices], asFloat16: false });
    expect(new Int32Array(target.buffer)).toEqual(Int32Array.of(1, -2, 250_001));
  });
});
