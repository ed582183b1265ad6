import { beforeAll, describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { type SeededRandom, seededRandom } from '../../testing/seeded-random.ts';
import { openCompiledTokenizer } from '../../tokenizer/compiler/tokenizer-file.ts';
import type { TokenizerTables } from '../../tokenizer/xlmr/compiled-format.ts';
import { createCompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import { createBreakFinder } from './breaks.ts';
import { createTextChunker, type TextChunk } from './text-chunker.ts';

/**
 * Chunks of texts of every kind: they cover the text, and none has a token too many. Tokens are
 * counted by the reference in `corpus-chunks.test.ts`.
 *
 * Faults that were planted to see these fail: a chunk that is not counted once it is cut; the next
 * chunk a unit late; flags split in two. Once seen: millions of blanks, which came again with every
 * chunk but for one of them.
 */

let tables: TokenizerTables;

beforeAll(async () => {
  const folder = join(import.meta.dir, '../../../models/multilingual-e5-small');
  const paths = { tokenizerPath: `${folder}/tokenizer.json` };
  ({ tables } = await openCompiledTokenizer({
    ...paths,
    compiledPath: `${folder}/tokenizer.compiled`,
  }));
});

interface Settings {
  readonly tokensMax: number;
  readonly overlapTokens?: number;
  readonly prefix?: string;
}

function chunksOf(text: string, settings: Settings): readonly TextChunk[] {
  const { overlapTokens = 0, prefix = 'passage: ' } = settings;
  return [...createTextChunker({ ...settings, tables, overlapTokens, prefix }).chunksOf(text)];
}

const segmenter = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** What is wrong with the chunks of a text, as words. */
function faultsOf(text: string, chunks: readonly TextChunk[], settings: Settings): string[] {
  const { tokensMax, overlapTokens = 0, prefix = 'passage: ' } = settings;
  const tokenizer = createCompiledTokenizer(tables);
  const whole = { tokenCountMax: 2 ** 30, truncationSide: 'right' } as const;
  const countOf = (piece: string, specialTokens: boolean): number =>
    tokenizer.encodeTexts([piece], { ...whole, specialTokens }).fullCounts[0] as number;
  const faults: string[] = [];
  let reached = 0;
  for (const { start, end, tokenCount } of chunks) {
    const tokens = countOf(prefix + text.slice(start, end), true);
    if (tokens > tokensMax) faults.push(`${start}: ${tokens} tokens`);
    if (tokenCount !== undefined && tokenCount !== tokens) faults.push(`${start}: ${tokenCount}`);
    if (start > reached) faults.push(`${reached} to ${start} in no chunk`);
    if (overlapTokens === 0 && start !== reached) faults.push(`${start} comes again`);
    if (end <= reached && reached > 0) faults.push(`${start} has nothing new`);
    // The mark in front of a word that begins within one is a token more.
    const again = countOf(text.slice(start, reached), false);
    if (again > overlapTokens + 2) faults.push(`${start}: ${again} tokens again`);
    if (!text.slice(start, end).isWellFormed()) faults.push(`${end} splits a pair`);
    reached = end;
  }
  if (reached !== text.length) faults.push(`ends at ${reached}`);
  return faults;
}

/** Pieces of texts that are hard in one way or another. */
const PIECES = [
  ...['статья ', 'суд', 'the lessee shall pay ', '第三百条　', '合同无效。', '「はい」', '한국어 '],
  ...[
    '\n\n',
    '\r\n',
    '\n',
    ' ',
    '        ',
    '\t',
    '\u00a0',
    '\u200b',
    '\u2028',
    '\u0000',
    '\ufeff',
  ],
  ...['👩‍👩‍👧‍👦', '🇷🇺', '🇷🇺🇩🇪🇫', '👍🏽', '😀', 'е\u0301', 'й'.normalize('NFD'), 'ḱ\u0327\u030a'],
  ...['ᄀ', 'ᅡ', 'ᆨ', 'क्षि', 'ก็', '\u0600', '\u200d', '\ufe0f', 'ﷺ', '㍿', '½', '…', '№ 5'],
  ...['. ', '! ', '?» ', 'ст. 5', 'И. И. Иванов', '1. ', '<s>', '</s>', '<mask>', '▁', '▁▁'],
  ...['x'.repeat(50), 'aZ09+/='.repeat(9), '.'.repeat(40), '中'.repeat(30), '\u0301'.repeat(30)],
];

function hardText(random: SeededRandom): string {
  const length = random.between(1, 600);
  const some = Array.from({ length: random.between(1, 12) }, () => random.pick(PIECES));
  return Array.from({ length }, () => random.pick(some)).join('');
}

test.each([1, 2, 3, 4])('whatever a text is made of, seed %p', (seed) => {
  const random = seededRandom(seed);
  for (let round = 0; round < 60; round++) {
    const tokensMax = random.between(32, 200);
    const settings = {
      tokensMax,
      overlapTokens: random.below(2) * random.below(Math.ceil(tokensMax / 2)),
      prefix: random.pick(['', 'passage: ']),
    };
    const text = hardText(random);
    const chunks = chunksOf(text, settings);
    const faults = faultsOf(text, chunks, settings);
    expect({ faults, text: faults.length > 0 ? text : '', settings }).toMatchObject({ faults: [] });
    // Another chunker, which has cut nothing before, cuts the same.
    expect(chunksOf(text, settings)).toEqual(chunks);
  }
});

test('a place is a boundary where the runtime has one', () => {
  const breaks = createBreakFinder(tables);
  const random = seededRandom(7);
  const wrong: string[] = [];
  for (let round = 0; round < 400; round++) {
    const text = hardText(random).slice(0, 400);
    if (!text.isWellFormed()) continue;
    const starts = new Set([...segmenter.segment(text)].map(({ index }) => index));
    for (let index = 1; index < text.length; index++) {
      if (breaks.isBoundary(text, index, 0) === starts.has(index)) continue;
      wrong.push(JSON.stringify(text.slice(Math.max(0, index - 6), index + 4)));
    }
  }
  expect([...new Set(wrong)].slice(0, 10)).toEqual([]);
});

describe('a chunk ends', () => {
  const words = (count: number): string => 'срок исковой давности '.repeat(count).trim();
  const endOf = (text: string): string => text.slice(0, chunksOf(text, { tokensMax: 64 })[0]?.end);

  test.each([
    ['at a paragraph', `${words(10)}.`, `\n\nИстец. Ответчик\nТретье лицо ${words(30)}`],
    ['at a line', `${words(10)}. Истец`, `\nОтветчик. Третье лицо ${words(30)}`],
    ['at the end of a sentence', `${words(10)} суд (вправе).`, ` Третье лицо ${words(30)}`],
    ['and not at an abbreviation', `${words(9)} (суд). По ст. 5 и г. Перми,`, ''],
    ['in Chinese', `${'合同无效'.repeat(26)}。`, '当事人应当'.repeat(60)],
  ])('%s', (name, before, behind) => {
    if (behind === '') {
      const text = `${before} Иванов ${words(30)}`;
      expect(endOf(text)).toBe(`${words(9)} (суд).`);
    } else expect({ name, end: endOf(before + behind) }).toEqual({ name, end: before });
  });

  test('before blanks, where there is nothing better', () => {
    const text = words(60);
    expect(endOf(text)).toMatch(/[а-я]$/);
    expect(text.slice(endOf(text).length)).toMatch(/^ [а-я]/);
  });
});

test('a text that fits is one chunk, and a short one is not even counted', () => {
  const text = 'срок исковой давности '.repeat(24);
  expect(chunksOf(text, { tokensMax: 512 })).toEqual([
    { start: 0, end: text.length, tokenCount: expect.any(Number) },
  ]);
  const short = { start: 0, end: 20, tokenCount: undefined };
  expect(chunksOf('срок исковой давност', { tokensMax: 64 })).toEqual([short]);
  // Eighteen letters each.
  expect(chunksOf('ﷺ'.repeat(20), { tokensMax: 64 }).length).toBeGreaterThan(1);
});

test('blanks are no chunk of their own', () => {
  const blanks = ' \n'.repeat(50_000);
  const words = 'срок исковой давности '.repeat(30);
  for (const text of [
    `суд${blanks}`,
    `${words}${blanks}`,
    `${words}${blanks}${words}`,
    `${blanks}а`,
  ]) {
    const chunks = chunksOf(text, { tokensMax: 64, overlapTokens: 16 });
    expect(chunks.map(({ start, end }) => text.slice(start, end).trim())).not.toContain('');
    expect(faultsOf(text, chunks, { tokensMax: 64, overlapTokens: 16 })).toEqual([]);
  }
  expect(chunksOf(blanks, { tokensMax: 64 }).length).toBe(1);
});

test('a last token that only a blank at the end would need makes no chunk of blanks', () => {
  for (let count = 50; count < 70; count++) {
    const text = `${'суд '.repeat(count).trim()}\n\n`;
    const chunks = chunksOf(text, { tokensMax: 64 });
    expect(chunks.map(({ start, end }) => text.slice(start, end).trim())).not.toContain('');
    expect(faultsOf(text, chunks, { tokensMax: 64 })).toEqual([]);
  }
});

test('millions of blanks come once, though they have no tokens that could be counted again', () => {
  const text = `суд${' '.repeat(3_000_000)}суд`;
  const settings = { tokensMax: 64, overlapTokens: 16 };
  const chunks = chunksOf(text, settings);
  expect(faultsOf(text, chunks, settings)).toEqual([]);
  expect(chunks.length).toBeLessThan(8);
});

test('a letter with 100,000 marks, which no boundary parts, is cut all the same', () => {
  const text = `суд ${'e\u0301'.padEnd(100_000, '\u0301\u0327')} суд`;
  const settings = { tokensMax: 512, overlapTokens: 64 };
  expect(faultsOf(text, chunksOf(text, settings), settings)).toEqual([]);
});
