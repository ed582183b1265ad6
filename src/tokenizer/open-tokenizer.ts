import { join } from 'node:path';
import type { Log } from '../base/log.ts';
import { openCompiledTokenizer } from './compiler/tokenizer-file.ts';
import type { TokenizerInit } from './pool/tokenizer-protocol.ts';
import { TokenizerUnsupportedError } from './tokenizer-error.ts';
import { type CompiledTokenizer, createCompiledTokenizer } from './xlmr/compiled-tokenizer.ts';

/** How a model's texts are tokenized. */
export interface OpenedTokenizer {
  /** The first message to every worker. */
  readonly init: TokenizerInit;
  /**
   * The compiled tokenizer, for the thread that opened it: pieces, special ids, decoding. Undefined
   * for a tokenizer of another family.
   */
  readonly vocabulary: CompiledTokenizer | undefined;
}

/**
 * Opens the tokenizer of a model: the compiled form of its `tokenizer.json`, made anew where it is
 * missing, damaged or of another source. A `tokenizer.json` that cannot be compiled exactly goes
 * through transformers.js instead.
 *
 * @throws Error when there is no `tokenizer.json`; TokenizerInvalidError when it is broken.
 */
export async function openTokenizer(options: {
  modelsDir: string;
  modelId: string;
  log: Log;
}): Promise<OpenedTokenizer> {
  const { modelsDir, modelId, log } = options;
  const folder = join(modelsDir, modelId);
  try {
    const opened = await openCompiledTokenizer({
      tokenizerPath: join(folder, 'tokenizer.json'),
      compiledPath: join(folder, 'tokenizer.compiled'),
    });
    if (opened.rebuiltBecause !== null) {
      log.info('tokenizer-compiled', { model: modelId, because: opened.rebuiltBecause });
    }
    return {
      init: { kind: 'compiled', tables: opened.buffer },
      vocabulary: createCompiledTokenizer(opened.tables),
    };
  } catch (error) {
    if (!(error instanceof TokenizerUnsupportedError)) throw error;
    log.warn('tokenizer-not-compiled', { model: modelId, reason: error.message });
    return { init: { kind: 'transformers.js', modelsDir, modelId }, vocabulary: undefined };
  }
}
