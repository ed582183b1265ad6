import { join } from 'node:path';
import { openCompiledTokenizer } from '../tokenizer/compiler/tokenizer-file.ts';
import {
  type CompiledTokenizer,
  createCompiledTokenizer,
} from '../tokenizer/xlmr/compiled-tokenizer.ts';
import { createReferenceTokenizer, type ReferenceTokenizer } from './reference-tokenizer.ts';

/** The tokenizer of the default model and the reference, over one `tokenizer.json`. */
export interface RealTokenizers {
  readonly tokenizer: CompiledTokenizer;
  readonly reference: ReferenceTokenizer;
}

/**
 * Opens the default model's tokenizer, compiling it when that has not been done yet.
 *
 * @throws Error that says what to run, when the model is not set up.
 */
export async function openRealTokenizers(): Promise<RealTokenizers> {
  const folder = join(import.meta.dir, '../../models/multilingual-e5-small');
  const tokenizerPath = join(folder, 'tokenizer.json');
  if (!(await Bun.file(tokenizerPath).exists())) {
    throw new Error('The default model is not set up: run ./run.sh test.');
  }
  const compiledPath = join(folder, 'tokenizer.compiled');
  const { tables } = await openCompiledTokenizer({ tokenizerPath, compiledPath });
  return {
    tokenizer: createCompiledTokenizer(tables),
    reference: createReferenceTokenizer(tokenizerPath),
  };
}
