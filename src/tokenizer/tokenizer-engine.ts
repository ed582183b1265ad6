import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { PreTrainedTokenizer } from '@huggingface/transformers';
import type { EncodedTexts, TokenizerFacts, TokenizerGreeting } from './tokenizer-protocol.ts';

/** Turns texts into token ids, on the thread that calls it. */
export interface TokenizerEngine {
  readonly facts: TokenizerFacts;
  /** @param limits.tokenCountMax ids kept for each text, special tokens included; the end of a text is cut. */
  encode(texts: readonly string[], limits: { tokenCountMax: number }): EncodedTexts;
}

/** Loads the tokenizer of a model from `<modelsDir>/<modelId>/`; nothing is fetched. */
export async function loadTokenizerEngine(greeting: TokenizerGreeting): Promise<TokenizerEngine> {
  const tokenizer = await loadTokenizer(greeting);

  const encode: TokenizerEngine['encode'] = (texts, { tokenCountMax }) => {
    const keptCounts = new Int32Array(texts.length);
    const fullCounts = new Int32Array(texts.length);
    const kept: number[][] = [];
    for (let index = 0; index < texts.length; index++) {
      const full: number[] = tokenizer.encode(texts[index]);
      const ids = full.length <= tokenCountMax ? full : cut(full, tokenCountMax);
      kept.push(ids);
      keptCounts[index] = ids.length;
      fullCounts[index] = full.length;
    }
    const ids = new Int32Array(keptCounts.reduce((sum, count) => sum + count, 0));
    let offset = 0;
    for (const row of kept) {
      ids.set(row, offset);
      offset += row.length;
    }
    return { ids, keptCounts, fullCounts };
  };

  return { facts: { engine: 'transformers.js' }, encode };
}

/** The first ids and the closing `</s>`, as the reference cuts; transformers.js would drop the closing one. */
function cut(full: readonly number[], tokenCountMax: number): number[] {
  return [...full.slice(0, tokenCountMax - 1), full[full.length - 1]];
}

async function loadTokenizer(greeting: TokenizerGreeting): Promise<PreTrainedTokenizer> {
  const transformers = await import('@huggingface/transformers');
  const folder = resolve(greeting.modelsDir, greeting.modelId);
  if (!existsSync(join(folder, 'tokenizer_config.json'))) {
    // A model that runs on Triton is set up with its tokenizer.json alone, which says all that is needed.
    const json = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
    return new transformers.PreTrainedTokenizer(json, {});
  }
  transformers.env.allowRemoteModels = false;
  transformers.env.localModelPath = resolve(greeting.modelsDir);
  return transformers.AutoTokenizer.from_pretrained(greeting.modelId);
}
