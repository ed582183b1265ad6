import { expect, setDefaultTimeout, test } from 'bun:test';
import { compileTokenizer } from '../../tokenizer/compiler/compile-tokenizer.ts';
import {
  TokenizerInvalidError,
  TokenizerUnsupportedError,
} from '../../tokenizer/tokenizer-error.ts';
import { readCompiledTokenizer } from '../../tokenizer/xlmr/compiled-format.ts';
import { createCompiledTokenizer } from '../../tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../../tokenizer/xlmr/unigram-search.ts';
import { createSmallTokenizer } from '../small-tokenizer.ts';
import { createRandom, randomText } from '../tokenizer-texts.ts';

/** Damaged files tried in each way; each that compiles takes some milliseconds. */
const RUN_COUNT = 600;

setDefaultTimeout(60_000);

type Random = () => number;

/** Compiles, and on success encodes: anything but a named error fails the test with its seed. */
function tryCompile(bytes: Uint8Array, seed: number): 'compiled' | 'refused' {
  let stage = 'compile';
  try {
    const tables = readCompiledTokenizer(compileTokenizer(bytes).buffer);
    stage = 'encode';
    const tokenizer = createCompiledTokenizer(tables);
    const out = createTokenIds();
    const options = { tokenCountMax: 64, truncationSide: 'right', specialTokens: true } as const;
    for (const text of ['abc e\u0301 <s>№\r\n', randomText(seed)]) {
      tokenizer.encode(text, { ...options, out });
      tokenizer.encodeWithOffsets(text, options);
    }
    for (const id of out.ids.subarray(0, out.length)) expect(tokenizer.pieceOf(id)).not.toBeNull();
    return 'compiled';
  } catch (error) {
    const isNamed =
      error instanceof TokenizerInvalidError || error instanceof TokenizerUnsupportedError;
    if (stage === 'compile' && isNamed) return 'refused';
    throw new Error(`seed ${seed}, ${stage}`, { cause: error });
  }
}

function fuzz(damage: (random: Random) => Uint8Array): { compiled: number; refused: number } {
  const counts = { compiled: 0, refused: 0 };
  for (let seed = 1; seed <= RUN_COUNT; seed++) {
    counts[tryCompile(damage(createRandom(seed)), seed)]++;
  }
  return counts;
}

const { bytes, json } = createSmallTokenizer();

test('bytes changed, removed and repeated', () => {
  const counts = fuzz((random) => {
    const copy = bytes().slice();
    const at = Math.floor(random() * copy.length);
    const kind = random();
    if (kind < 0.5) {
      for (let change = 1 + random() * 4; change > 0; change--) {
        copy[Math.floor(random() * copy.length)] = Math.floor(random() * 128);
      }
      return copy;
    }
    if (kind < 0.75) return copy.subarray(0, at);
    const end = at + Math.floor(random() * 50);
    return Uint8Array.from([...copy.subarray(0, end), ...copy.subarray(at)]);
  });
  expect(counts.refused).toBeGreaterThan(RUN_COUNT / 4);
  expect(counts.compiled).toBeGreaterThan(0);
});

/** What a value is replaced by. */
const ODD: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1.5, 1e308, 2 ** 53, '', 'x', '▁', '\ud800', [], [[]], {}],
  ...[{ type: 'Sequence' }, { type: 'Precompiled' }, 'AAAA', [['a', 1]], '<s>', 'Unigram'],
];

test('values replaced and left out', () => {
  const counts = fuzz((random) => {
    const copy = structuredClone(json);
    for (let change = 1 + random() * 2; change > 0; change--) {
      let parent: unknown = copy;
      for (let depth = 0; depth < 12; depth++) {
        if (typeof parent !== 'object' || parent === null) break;
        const keys = Object.keys(parent);
        const key = keys[Math.floor(random() * keys.length)];
        const fields = parent as Record<string, unknown>;
        const child = fields[key];
        if (typeof child !== 'object' || child === null || random() < 0.2) {
          if (random() < 0.2) delete fields[key];
          else fields[key] = ODD[Math.floor(random() * ODD.length)];
          break;
        }
        parent = child;
      }
    }
    return new TextEncoder().encode(JSON.stringify(copy));
  });
  expect(counts.refused).toBeGreaterThan(RUN_COUNT / 4);
  expect(counts.compiled).toBeGreaterThan(0);
});

test('charsmaps with other bytes', () => {
  const steps = json.normalizer?.normalizers as { precompiled_charsmap: string }[];
  const charsmap = Buffer.from(steps[0].precompiled_charsmap, 'base64');
  const counts = fuzz((random) => {
    const copy = Buffer.from(charsmap);
    for (let change = 1 + random() * 6; change > 0; change--) {
      const where = random() < 0.3 ? Math.floor(random() * 8) : Math.floor(random() * copy.length);
      copy[where] = Math.floor(random() * 256);
    }
    const damaged = structuredClone(json);
    const target = damaged.normalizer?.normalizers as { precompiled_charsmap: string }[];
    target[0].precompiled_charsmap = copy.toString('base64');
    return new TextEncoder().encode(JSON.stringify(damaged));
  });
  expect(counts.refused).toBeGreaterThan(RUN_COUNT / 20);
  expect(counts.compiled).toBeGreaterThan(0);
});
