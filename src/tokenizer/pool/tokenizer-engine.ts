import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { PreTrainedTokenizer } from '@huggingface/transformers';
import { readCompiledTokenizer } from '../xlmr/compiled-format.ts';
import {
  createCompiledTokenizer,
  type EncodedTexts,
  type EncodeOptions,
} from '../xlmr/compiled-tokenizer.ts';
import { type ShownTokens, showTokens } from '../xlmr/shown-tokens.ts';
import type { TokenizerInit, TokenizerReady } from './tokenizer-protocol.ts';

/** Turns texts into token ids, on the thread that calls it. */
export interface TokenizerEngine {
  readonly ready: TokenizerReady;
  encode(texts: readonly string[], options: EncodeOptions): EncodedTexts;
  /** With offsets, as the bytes of the reply; undefined where the tokenizer has none. */
  readonly explain?: (texts: readonly string[], options: EncodeOptions) => ShownTokens;
}

/** Makes the engine that the init message names. Nothing is fetched from outside. */
export async function loadTokenizerEngine(init: TokenizerInit): Promise<TokenizerEngine> {
  if (init.kind === 'compiled') return createCompiledEngine(init.tables);
  return createTransformersEngine(await loadTransformersTokenizer(init));
}

/** @param tables a verified compiled tokenizer; shared, never written. */
function createCompiledEngine(tables: SharedArrayBuffer): TokenizerEngine {
  const verified = readCompiledTokenizer(tables, { verifiesChecksum: false });
  const tokenizer = createCompiledTokenizer(verified);
  return {
    ready: { engine: 'compiled' },
    encode: tokenizer.encodeTexts,
    explain: (texts, options) => showTokens(tokenizer, texts, options),
  };
}

/** For tokenizers of other families. */
function createTransformersEngine(tokenizer: PreTrainedTokenizer): TokenizerEngine {
  function encode(texts: readonly string[], options: EncodeOptions): EncodedTexts {
    const keptCounts = new Int32Array(texts.length);
    const fullCounts = new Int32Array(texts.length);
    const kept: (readonly number[])[] = [];
    for (let index = 0; index < texts.length; index++) {
      const full: number[] = tokenizer.encode(texts[index]);
      const ids = cut(full, options);
      kept.push(ids);
      keptCounts[index] = ids.length;
      fullCounts[index] = full.length;
    }
    return { tokenIds: Int32Array.from(kept.flat()), keptCounts, fullCounts };
  }

  return { ready: { engine: 'transformers.js' }, encode };
}

/** Keeps the opening and the closing special token, as the reference does. */
function cut(full: readonly number[], options: EncodeOptions): readonly number[] {
  const { tokenCountMax, truncationSide } = options;
  if (full.length <= tokenCountMax) return full;
  if (truncationSide === 'left') return [full[0], ...full.slice(full.length - tokenCountMax + 1)];
  return [...full.slice(0, tokenCountMax - 1), full[full.length - 1]];
}

async function loadTransformersTokenizer(init: {
  readonly modelsDir: string;
  readonly modelId: string;
}): Promise<PreTrainedTokenizer> {
  const transformers = await import('@huggingface/transformers');
  const folder = resolve(init.modelsDir, init.modelId);
  if (!existsSync(join(folder, 'tokenizer_config.json'))) {
    // A model that runs on Triton is set up with its tokenizer.json alone, which says all that is
    // needed.
    const json = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
    return new transformers.PreTrainedTokenizer(json, {});
  }
  transformers.env.allowRemoteModels = false;
  transformers.env.localModelPath = resolve(init.modelsDir);
  return transformers.AutoTokenizer.from_pretrained(init.modelId);
}
