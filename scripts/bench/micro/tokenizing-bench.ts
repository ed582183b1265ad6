import { createLog } from '../../../src/base/log.ts';
import { openTokenizer } from '../../../src/tokenizer/open-tokenizer.ts';
import { createTokenIds } from '../../../src/tokenizer/xlmr/unigram-search.ts';
import { benchTexts, type TextLength } from '../bench-texts.ts';
import type { MicroGroup, MicroTask } from './micro-task.ts';

/** More different texts than the tokenizer's cache of words can make the same work of. */
const TEXT_COUNTS: Readonly<Record<TextLength, number>> = {
  short: 256,
  middle: 64,
  long: 16,
  document: 2,
};

/**
 * The tokenizer on this thread, for texts of each length, and for one in which the normalizer has
 * work at every character: full-width letters, ligatures, circled digits, combining marks.
 *
 * @throws Error when the model's tokenizer could not be compiled.
 */
export async function tokenizingTasks(modelsDir: string): Promise<MicroGroup> {
  const log = createLog({ level: 'error', write: (line) => process.stderr.write(line) });
  const { vocabulary } = await openTokenizer({ modelsDir, modelId: 'bge-m3', log });
  if (vocabulary === undefined) throw new Error('The tokenizer of bge-m3 is not compiled.');
  const out = createTokenIds();
  const options = {
    tokenCountMax: 8192,
    truncationSide: 'right',
    specialTokens: true,
    out,
  } as const;

  function task(name: string, texts: readonly string[]): MicroTask {
    const run = (): number => {
      out.length = 0;
      for (const text of texts) vocabulary?.encode(text, options);
      return out.length;
    };
    const tokens = run() / texts.length;
    const words = `${name}, ${tokens.toFixed(0)} tokens`;
    return { group: 'tokenizer', name: words, per: 'text', operationCount: texts.length, run };
  }

  const lengths = Object.entries(TEXT_COUNTS) as [TextLength, number][];
  const normalized = 'Ｄｏｇｏｖｏｒ ﬁnal ①②③ й́ё̈ ㎏ ™ ﬀ '.repeat(16);
  return {
    tasks: [
      ...lengths.map(([length, count]) => task(length, benchTexts({ length, count, seed: 1 }))),
      task('all to be normalized', [normalized]),
    ],
    close: () => undefined,
  };
}
