import { resolve } from 'node:path';
import type { EncodedTexts, TokenizerFacts, TokenizerGreeting } from './tokenizer-protocol.ts';

/** Turns texts into token ids, on the thread that calls it. */
export interface TokenizerEngine {
  readonly facts: TokenizerFacts;
  /** @param limits.tokenCountMax ids kept for each text, special tokens included; the end of a text is cut. */
  encode(texts: readonly string[], limits: { tokenCountMax: number }): EncodedTexts;
}

/** Loads the tokenizer of a model from `<modelsDir>/<modelId>/`; nothing is fetched. */
export async function loadTokenizerEngine(greeting: TokenizerGreeting): Promise<TokenizerEngine> {
  const { AutoTokenizer, env } = await import('@huggingface/transformers');
  env.allowRemoteModels = false;
  env.localModelPath = resolve(greeting.modelsDir);
  const tokenizer = await AutoTokenizer.from_pretrained(greeting.modelId);

  const encode: TokenizerEngine['encode'] = (texts, { tokenCountMax }) => {
    const keptCounts = new Int32Array(texts.length);
    const fullCounts = new Int32Array(texts.length);
    const kept: number[][] = [];
    for (let index = 0; index < texts.length; index++) {
      const full: number[] = tokenizer.encode(texts[index]);
      const ids = full.length <= tokenCountMax ? full : cut(texts[index], tokenCountMax);
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

  function cut(text: string, tokenCountMax: number): number[] {
    const options = { truncation: true, max_length: tokenCountMax, return_tensor: false };
    return tokenizer(text, options).input_ids as unknown as number[];
  }

  return { facts: { engine: 'transformers.js' }, encode };
}
