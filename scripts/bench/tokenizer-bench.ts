/**
 * The tokenizer against others on the same texts, in one run, taking turns: texts a second on one
 * thread, as medians and as ratios. Then the worst texts per byte beside prose, and what it takes
 * to start. It reports nothing when an id is wrong.
 */
import { stat } from 'node:fs/promises';
import { legalProse, legalQueries } from '../../src/testing/legal-prose.ts';
import { createReferenceTokenizer } from '../../src/testing/reference-tokenizer.ts';
import { compareTokenizers } from '../../src/testing/tokenizer-comparison.ts';
import { compileTokenizer } from '../../src/tokenizer/compiler/compile-tokenizer.ts';
import { openCompiledTokenizer } from '../../src/tokenizer/compiler/tokenizer-file.ts';
import { createCompiledTokenizer } from '../../src/tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../../src/tokenizer/xlmr/unigram-search.ts';
import { count, readFlags, text } from '../flags.ts';
import { verdict } from './run-script.ts';
import {
  createOurs,
  createRust,
  createSentencePiece,
  createTransformers,
  type Rival,
} from './tokenizer/rivals.ts';

/**
 * One turn of one tokenizer: long enough to outweigh a message, short enough to take many turns.
 */
const TURN_MS = 150;

const MEGABYTE = 1 << 20;

/**
 * A text may be this many times as slow as Russian prose, byte for byte, whatever is in it. The
 * bound is the vocabulary's longest piece: each place of a word is the start of 16 pieces at most.
 */
const WORST_RATIO_MAX = 16;

const values = readFlags(import.meta.path, {
  model: text('FOLDER', 'models/multilingual-e5-small', 'where tokenizer.json is'),
  rounds: count(9, [1, 1000], 'turns of each; medians come of them'),
  python: text(
    'PATH',
    '',
    'an interpreter that has sentencepiece; without it SentencePiece is left out',
  ),
});
const roundCount = values.rounds;

// The reference would use every core for a batch. Its library reads the variable when it loads.
if (process.env.RAYON_NUM_THREADS !== '1') {
  const child = Bun.spawn([process.execPath, import.meta.path, ...process.argv.slice(2)], {
    env: { ...process.env, RAYON_NUM_THREADS: '1' },
    stdio: ['inherit', 'inherit', 'inherit'],
  });
  process.exit(await child.exited);
}

const paths = {
  tokenizerPath: `${values.model}/tokenizer.json`,
  compiledPath: `${values.model}/tokenizer.compiled`,
};
const { tables } = await openCompiledTokenizer(paths);
const tokenizer = createCompiledTokenizer(tables);
const reference = createReferenceTokenizer(paths.tokenizerPath);

const SETS = [
  { name: 'Russian pages', texts: prose('russian', 8_000, 40) },
  { name: 'Russian queries', texts: legalQueries({ count: 500, seed: 1 }) },
  { name: 'English pages', texts: prose('english', 8_000, 40) },
];

function prose(language: 'russian' | 'english', lengthMin: number, count: number): string[] {
  return legalProse({ language, lengthMin, count, seed: 1 });
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function countTokens(texts: readonly string[]): number {
  const out = createTokenIds();
  const options = { tokenCountMax: 1 << 30, truncationSide: 'right', specialTokens: true } as const;
  return texts.reduce((sum, text) => {
    out.length = 0;
    return sum + tokenizer.encode(text, { ...options, out }).fullCount;
  }, 0);
}

async function compareRivals(rivals: readonly Rival[]): Promise<void> {
  for (const { name, texts } of SETS) {
    const wrong = await compareTokenizers(tokenizer, reference, texts);
    if (wrong.length > 0) throw new Error(`wrong ids, no report: ${wrong[0]}`);
    const tokens = countTokens(texts);
    const speeds = rivals.map((): number[] => []);
    for (const rival of rivals) {
      await rival.use(texts);
      await rival.run(TURN_MS * 2);
    }
    for (let round = 0; round < roundCount; round++) {
      for (let turn = 0; turn < rivals.length; turn++) {
        const index = (round + turn) % rivals.length;
        speeds[index].push(await rivals[index].run(TURN_MS));
      }
    }
    const ours = speeds[0];
    console.log(`\n${name}: ${texts.length} texts, ${tokens} tokens`);
    for (const [index, rival] of rivals.entries()) {
      const speed = median(speeds[index]);
      // Each round's two turns stood side by side: the median of their ratios outlives a busy
      // machine.
      const ratio = median(ours.map((own, round) => own / speeds[index][round]));
      const perSecond = ((speed * tokens) / 1e6).toFixed(2).padStart(7);
      const perText = (1e6 / (speed * texts.length)).toFixed(2).padStart(10);
      const times = `${ratio.toFixed(1)} times`.padStart(12);
      console.log(`${rival.name.padEnd(34)}${perSecond} M tokens/s ${perText} µs/text ${times}`);
    }
  }
}

/** A megabyte each, or nearly. */
function worstTexts(): [name: string, text: string][] {
  const filled = (part: string): string =>
    part.repeat(Math.floor(MEGABYTE / Buffer.byteLength(part)));
  return [
    ['Russian prose', prose('russian', MEGABYTE / 2, 1)[0]],
    ['English prose', prose('english', MEGABYTE, 1)[0]],
    ['one Cyrillic letter', filled('а')],
    ['one Latin letter', filled('a')],
    ['one Latin letter, three pieces', filled('z')],
    ['full stops', filled('.')],
    ['two Latin letters in turns', filled('ha')],
    ['▁ marks', filled('▁')],
    ['combining marks', filled('\u0301')],
    ['a letter and its marks', `a${filled('\u0301')}`],
    ['decomposed letters', filled('e\u0301')],
    ['emoji', filled('😀')],
    ['emoji sequences', filled('👩‍🚀')],
    ['spaces', filled(' ')],
    ['line breaks', filled('\n')],
    ['Chinese', filled('中华人民共和国民法典')],
    ['Hindi', filled('न्यायालय ने निर्णय दिया। ')],
    ['full-width letters', filled('ＡＢＣ，。')],
    ['characters without a piece', filled('\u{13000}')],
    ['literal special tokens', filled('<mask>')],
    ['angle brackets', filled('<')],
  ];
}

function measureWorst(): void {
  const out = createTokenIds(MEGABYTE * 2);
  const options = { tokenCountMax: 1 << 30, truncationSide: 'right', specialTokens: true } as const;
  const texts = worstTexts();
  const times = texts.map((): number[] => []);
  for (let round = 0; round < roundCount + 2; round++) {
    for (const [index, [, text]] of texts.entries()) {
      const started = performance.now();
      out.length = 0;
      tokenizer.encode(text, { ...options, out });
      // The first two rounds compile the loops.
      if (round >= 2) times[index].push((performance.now() - started) * 1e6);
    }
  }
  console.log('\nWorst texts, ns a byte, beside Russian prose: the fastest turn of each');
  // Another's load only ever adds, and a slow turn of prose would make all others look well.
  const perByte = times.map(
    (list, index) => Math.min(...list) / Buffer.byteLength(texts[index][1]),
  );
  const ratios = perByte.map((cost) => cost / perByte[0]);
  for (const [index, [name]] of texts.entries()) {
    const ratio = ratios[index].toFixed(2).padStart(8);
    console.log(`${name.padEnd(34)}${perByte[index].toFixed(2).padStart(7)} ${ratio}`);
  }
  const worst = Math.max(...ratios);
  const [name] = texts[ratios.indexOf(worst)];
  const found = `${worst.toFixed(2)} times Russian prose: ${name}`;
  console.log(verdict(found, `at most ${WORST_RATIO_MAX}`, worst <= WORST_RATIO_MAX));
}

async function measureStart(): Promise<void> {
  const source = await Bun.file(paths.tokenizerPath).bytes();
  const started = performance.now();
  const compiled = compileTokenizer(source);
  const compileMs = performance.now() - started;
  const probe = `${import.meta.dir}/tokenizer/start-probe.ts`;
  const starts = Array.from({ length: roundCount }, () => {
    const { stdout } = Bun.spawnSync([process.execPath, probe, values.model]);
    return Number(stdout.toString());
  });
  console.log('\nStart');
  console.log(`compile ${compileMs.toFixed(0)} ms, ${(compiled.length / 1e6).toFixed(2)} MB`);
  const { size } = await stat(paths.compiledPath);
  console.log(`open ${(size / 1e6).toFixed(2)} MB and first text ${median(starts).toFixed(1)} ms`);
}

const rivals = [
  await createOurs(values.model, true),
  await createOurs(values.model, false),
  createRust(values.model),
  await createTransformers(values.model),
  ...(values.python === '' ? [] : [await createSentencePiece(values.model, values.python)]),
];
await measureStart();
measureWorst();
await compareRivals(rivals);
for (const rival of rivals) await rival.close();
