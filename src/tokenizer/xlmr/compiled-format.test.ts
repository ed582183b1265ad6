import { describe, expect, test } from 'bun:test';
import { createSmallTokenizer } from '../../testing/small-tokenizer.ts';
import { createRandom } from '../../testing/tokenizer-texts.ts';
import { compileTokenizer } from '../compiler/compile-tokenizer.ts';
import { CompiledTokenizerError } from '../tokenizer-error.ts';
import { readCompiledTokenizer } from './compiled-format.ts';
import { createCompiledTokenizer } from './compiled-tokenizer.ts';
import { createTokenIds } from './unigram-search.ts';

const file = compileTokenizer(createSmallTokenizer().bytes());

function changed(change: (copy: Uint8Array, view: DataView) => void): ArrayBuffer {
  const copy = file.slice();
  change(copy, new DataView(copy.buffer));
  return copy.buffer;
}

describe('a compiled tokenizer', () => {
  test('opens over shared memory, and copies nothing', () => {
    const shared = new SharedArrayBuffer(file.length);
    new Uint8Array(shared).set(file);
    const tables = readCompiledTokenizer(shared);
    expect(tables.trie.buffer).toBe(shared);
    expect(tables.scores.buffer).toBe(shared);
    const tokenizer = createCompiledTokenizer(tables);
    const out = createTokenIds();
    const options = { tokenCountMax: 9, truncationSide: 'right', specialTokens: true } as const;
    expect(tokenizer.encode('abc', { ...options, out }).fullCount).toBeGreaterThan(2);
    expect(tokenizer.pieceOf(4)).toBe('▁');
  });

  test('is refused with any one byte changed', () => {
    const random = createRandom(1);
    for (let run = 0; run < 2_000; run++) {
      // The first 200 bytes one by one, then anywhere.
      const at = run < 200 ? run : Math.floor(random() * file.length);
      const damaged = changed((copy) => {
        copy[at] ^= 1 + Math.floor(random() * 255);
      });
      // Four bytes of the header are unused but for their part in the version word.
      expect(() => readCompiledTokenizer(damaged)).toThrow(CompiledTokenizerError);
    }
  });

  test('is refused when truncated, and when longer', () => {
    for (const length of [0, 7, 8, 31, 200, file.length >> 1, file.length - 1]) {
      const short = file.slice(0, length).buffer;
      expect(() => readCompiledTokenizer(short)).toThrow(CompiledTokenizerError);
    }
    const long = new Uint8Array(file.length + 8);
    long.set(file);
    expect(() => readCompiledTokenizer(long.buffer)).toThrow('truncated');
  });

  test('is refused when foreign or of another format', () => {
    const foreign = new TextEncoder().encode('{"version":"1.0"}'.repeat(100)).buffer;
    expect(() => readCompiledTokenizer(foreign)).toThrow('not such a file');
    const newer = changed((_, view) => view.setUint32(8, 99, true));
    expect(() => readCompiledTokenizer(newer)).toThrow('format 99');
  });

  test('is checked for its bounds even without the checksum', () => {
    const outside = changed((_, view) => view.setUint32(32 + 8, 0x7fffff00, true));
    const options = { verifiesChecksum: false };
    expect(() => readCompiledTokenizer(outside, options)).toThrow('outside the file');
    const unequal = changed((_, view) => view.setUint32(32 + 8 + 4, 16, true));
    expect(() => readCompiledTokenizer(unequal, options)).toThrow('unequal length');
  });
});
