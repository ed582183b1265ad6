import { expect, setDefaultTimeout, test } from 'bun:test';
import { openRealTokenizers } from '../../testing/real-tokenizer.ts';
import { compareTokenizers } from '../../testing/tokenizer-comparison.ts';
import { createRandom } from '../../testing/tokenizer-texts.ts';

/**
 * Long runs of one character, and of two in turns, against the reference on the real vocabulary:
 * there the search has the most pieces to choose from, and the most ties. Faults that these have
 * caught when planted: `>=` for `>` in the search, unknown pieces in a row not made one.
 */
setDefaultTimeout(60_000);

const { tokenizer, reference } = await openRealTokenizers();

/**
 * Letters whose runs have one piece, two, three, four, six, eight, ten and thirteen; letters, a
 * mark and a character above U+FFFF without a piece of their own; what starts words, what begins
 * and ends pairs, what has a replacement of one code, of several and of none.
 */
const CHARACTERS = [
  ...['х', 'щ', '中', '한', 'а', '<', '=', 'z', 'a', 'e', '-', '0', '*', '_', '#', '.'],
  ...['ԥ', '\u{13000}', '\u0489', '\u0301', '▁', ' ', '\u3000', '\n', '😀', '\u200d'],
  ...['Ａ', '…', '№', 'ﷺ', '\u00ad', '\u0600', '\ud83d', 'か', '\u3099', 'é'],
];

/** Around multiples of the longest piece, which has 16 characters, and well beyond. */
const LENGTHS = [
  ...[1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49],
  ...[62, 63, 64, 65, 66, 67, 79, 80, 81, 95, 96, 97, 127, 128, 129],
  ...[254, 255, 256, 257, 258, 259, 511, 512, 513, 514, 515, 767, 768, 769, 1000],
  ...[1023, 1024, 1025, 1040, 1054, 1055, 1056, 1057, 1100, 2080, 2104, 2105, 3000],
];

/** A lone surrogate reaches the reference as U+FFFD. */
async function differences(texts: readonly string[]): Promise<string[]> {
  return compareTokenizers(
    tokenizer,
    reference,
    texts.map((text) => text.toWellFormed()),
  );
}

test('runs of every length around the thresholds', async () => {
  for (const character of CHARACTERS) {
    const texts = LENGTHS.map((length) => character.repeat(length));
    expect(await differences(texts)).toEqual([]);
  }
});

test('runs between other text', async () => {
  const sides = ['', 'x', 'е', ' ', 'e', '\u0301', 'слово ', 'Ａ', '<', '\u0600', 'a'.repeat(70)];
  for (const character of CHARACTERS) {
    const texts = [60, 65, 80, 257, 600, 1100].flatMap((length) =>
      sides.flatMap((before) =>
        ['', 'x', '\u0301', ' конец'].map((after) => before + character.repeat(length) + after),
      ),
    );
    expect(await differences(texts)).toEqual([]);
  }
});

test('runs that begin and end anywhere beside the steps', async () => {
  const texts: string[] = [];
  for (let shift = 0; shift < 520; shift++) {
    texts.push(`${'аб'.repeat(shift).slice(0, shift)}${'e'.repeat(300)}\u0301x`);
    texts.push(`${'z'.repeat(shift)}${'.'.repeat(280)}${'\u0301'.repeat(270)}`);
  }
  expect(await differences(texts)).toEqual([]);
});

test('two characters taking turns, and runs of both', async () => {
  for (const first of CHARACTERS) {
    const texts = CHARACTERS.flatMap((second) => [
      (first + second).repeat(150),
      (first + second).repeat(300).slice(0, 599),
      first.repeat(90) + second.repeat(90) + first.repeat(300) + second.repeat(300),
    ]);
    expect(await differences(texts)).toEqual([]);
  }
});

test('letters and their marks, over and over', async () => {
  const texts = ['e\u0301', 'e\u0301\u0301', 'и\u0306', 'か\u3099', '\u0600e\u0301', '©\u0301']
    .flatMap((part) => ['e\u0301\u200d', 'e\u0301😀', 'Ａ\u0301', '\u1f00\u0301', part])
    .flatMap((part) => [1, 2, 3, 130, 700].map((count) => part.repeat(count)));
  expect(await differences(texts)).toEqual([]);
});

test('long texts, truncated on either side', async () => {
  const texts = CHARACTERS.map((character) => character.toWellFormed().repeat(3_000));
  for (const side of ['left', 'right'] as const) {
    const options = { specialTokens: true, truncation: { tokenCountMax: 50, side } };
    expect(await compareTokenizers(tokenizer, reference, texts, options)).toEqual([]);
  }
});

test('runs behind each other at random', async () => {
  const random = createRandom(11);
  const whole = (below: number): number => Math.floor(random() * below);
  const texts = Array.from({ length: 1_500 }, () =>
    Array.from({ length: 1 + whole(5) }, () =>
      CHARACTERS[whole(CHARACTERS.length)].repeat(1 + whole(random() < 0.5 ? 90 : 1_200)),
    ).join(random() < 0.2 ? ' ' : ''),
  );
  expect(await differences(texts)).toEqual([]);
});

test('a hundred thousand of one character', async () => {
  const texts = ['а', 'a', '.', 'ԥ', '\u0301', '<'].map((character) => character.repeat(100_003));
  expect(await differences(texts)).toEqual([]);
});
