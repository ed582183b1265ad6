import { expect, test } from 'bun:test';
import { join } from 'node:path';
import { openCompiledTokenizer } from '../compiler/tokenizer-file.ts';
import { createCharacterLookup } from './character-lookup.ts';

/**
 * A pair that is called lone is a cluster of its own, by the runtime's segmenter, and short enough
 * to be replaced as one. Faults that this has caught when planted: no bound of bytes for the letter
 * and the mark; no look at the letter's class, at what stands before, or behind.
 */

const folder = join(import.meta.dir, '../../../models/multilingual-e5-small');
const { tables } = await openCompiledTokenizer({
  tokenizerPath: join(folder, 'tokenizer.json'),
  compiledPath: join(folder, 'tokenizer.compiled'),
});
const lookup = createCharacterLookup(tables);
const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** Clusters of so many bytes of UTF-8 are looked up as one. */
const CLUSTER_BYTES_MAX = 5;

const MARKS = ['\u0301', '\u0483', '\u0591', '\u064b', '\u200d', '\u3099', '\u093e'];
const BEFORE = ['', 'a', '\u0600', '\u0301', '\r', '\ud83d', '한'];
const BEHIND = ['', 'b', '\u0302', '\u200d', '\u0903', '\udc00', '\n'];

/** Whether what is called a lone pair at `index` is one. */
function isRight(text: string, index: number): boolean {
  const cluster = segmenter.segment(text).containing(index);
  const pair = text.slice(index - 1, index + 1);
  return cluster?.segment === pair && Buffer.byteLength(pair) <= CLUSTER_BYTES_MAX;
}

function count(firsts: Iterable<string>, before: string, behind: string) {
  const wrong: string[] = [];
  let pairCount = 0;
  for (const first of firsts) {
    for (const mark of MARKS) {
      const text = before + first + mark + behind;
      const index = before.length + 1;
      if (!lookup.isLonePair(text, index, 0, text.length)) continue;
      pairCount++;
      if (!isRight(text, index)) wrong.push(JSON.stringify(text));
    }
  }
  return { wrong, pairCount };
}

test('every unit with a mark', () => {
  const letters = Array.from({ length: 0xd7ff }, (_, unit) => String.fromCharCode(unit + 1));
  const { wrong, pairCount } = count(letters, '', '');
  expect(wrong).toEqual([]);
  // Nearly all of what takes two bytes at most, with four marks that do.
  expect(pairCount).toBeGreaterThan(4 * 1500);
});

test('whatever stands before and behind', () => {
  let pairCount = 0;
  for (const before of BEFORE) {
    for (const behind of BEHIND) {
      const found = count(['e', 'е', 'щ', 'א', '\u0300', '\t', '\u0600', 'か'], before, behind);
      expect(found.wrong).toEqual([]);
      pairCount += found.pairCount;
    }
  }
  expect(pairCount).toBeGreaterThan(100);
});
