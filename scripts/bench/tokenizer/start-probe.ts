import { openCompiledTokenizer } from '../../../src/tokenizer/compiler/tokenizer-file.ts';
import { createCompiledTokenizer } from '../../../src/tokenizer/xlmr/compiled-tokenizer.ts';
import { createTokenIds } from '../../../src/tokenizer/xlmr/unigram-search.ts';

/**
 * Opens the compiled tokenizer and encodes one text in a process that has done neither before, and
 * prints the milliseconds from opening to the first ids.
 *
 * usage: bun start-probe.ts FOLDER
 */
const folder = process.argv[2];
const started = performance.now();
const { tables } = await openCompiledTokenizer({
  tokenizerPath: `${folder}/tokenizer.json`,
  compiledPath: `${folder}/tokenizer.compiled`,
});
const tokenizer = createCompiledTokenizer(tables);
tokenizer.encode('срок исковой давности', {
  tokenCountMax: 512,
  truncationSide: 'right',
  specialTokens: true,
  out: createTokenIds(),
});
console.log(performance.now() - started);
