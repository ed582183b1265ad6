/**
 * Compares the compiled tokenizer with the reference: every code point alone and between letters,
 * then seeded random texts. Ids, offsets, special flags, and on a share of the texts truncation on
 * either side. Prints each text that differs with the seed of its batch, and then exits with 1.
 */
import { createReferenceTokenizer } from '../../src/testing/reference-tokenizer.ts';
import { compareTokenizers } from '../../src/testing/tokenizer-comparison.ts';
import { createRandom, randomText } from '../../src/testing/tokenizer-texts.ts';
import { compileTokenizer } from '../../src/tokenizer/compiler/compile-tokenizer.ts';
import { readCompiledTokenizer } from '../../src/tokenizer/xlmr/compiled-format.ts';
import { createCompiledTokenizer } from '../../src/tokenizer/xlmr/compiled-tokenizer.ts';
import { count, onOff, readFlags, SEED, text } from '../flags.ts';

/** Texts that the reference gets in one call. */
const BATCH_SIZE = 2_000;

/** One batch in so many is also compared truncated. */
const TRUNCATED_SHARE = 4;

/** Differences are printed up to here, then only counted. */
const PRINTED_MAX = 20;

const values = readFlags(import.meta.path, {
  count: count(1_000_000, [1, 1_000_000_000], 'random texts'),
  seed: SEED,
  model: text('FOLDER', 'models/multilingual-e5-small', 'where tokenizer.json is'),
  'no-code-points': onOff('leaves out the code points'),
});
const textCount = values.count;
const firstSeed = values.seed;
const path = `${values.model}/tokenizer.json`;
const compiled = compileTokenizer(await Bun.file(path).bytes());
const tokenizer = createCompiledTokenizer(readCompiledTokenizer(compiled.buffer));
const reference = createReferenceTokenizer(path);

let differences = 0;
function report(seed: number, lines: readonly string[]): void {
  for (const line of lines) {
    if (differences++ < PRINTED_MAX) console.log(`batch of seed ${seed}: ${line}`);
  }
}

/** Every code point alone and between two letters, each a text of its own. */
async function compareCodePoints(): Promise<void> {
  for (let first = 0; first < 0x110000; first += BATCH_SIZE / 2) {
    const texts: string[] = [];
    for (let point = first; point < Math.min(first + BATCH_SIZE / 2, 0x110000); point++) {
      const character = String.fromCodePoint(point);
      if (character.isWellFormed()) texts.push(character, `a${character}b`);
    }
    const lines = await compareTokenizers(tokenizer, reference, texts);
    for (const line of lines) {
      if (differences++ < PRINTED_MAX) console.log(`code points from ${first}: ${line}`);
    }
  }
  console.log(`every code point, ${differences} differ`);
}

if (!values['no-code-points']) await compareCodePoints();
for (let done = 0; done < textCount; done += BATCH_SIZE) {
  const seed = firstSeed + done;
  const size = Math.min(BATCH_SIZE, textCount - done);
  const texts = Array.from({ length: size }, (_, index) => randomText(seed + index));
  report(seed, await compareTokenizers(tokenizer, reference, texts));
  if ((done / BATCH_SIZE) % TRUNCATED_SHARE === 0) {
    const random = createRandom(seed);
    const truncation = {
      tokenCountMax: 2 + Math.floor(random() * 12),
      side: random() < 0.5 ? ('left' as const) : ('right' as const),
    };
    const specialTokens = random() < 0.7;
    report(
      seed,
      await compareTokenizers(tokenizer, reference, texts, { specialTokens, truncation }),
    );
  }
  if ((done / BATCH_SIZE) % 50 === 49) console.log(`${done + size} texts, ${differences} differ`);
}
console.log(`${textCount} texts from seed ${firstSeed}: ${differences} differ`);
if (differences > 0) process.exit(1);
