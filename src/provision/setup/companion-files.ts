import type { ModelManifest } from '../../model/manifest.ts';

/**
 * `tokenizer_config.json` for an XLM-R tokenizer, as transformers.js reads it. Its `mask_token`
 * must be a plain string: the object that other tools write there is refused.
 *
 * @returns UTF-8; the same bytes for the same manifest.
 */
export function writeTokenizerConfig(manifest: Pick<ModelManifest, 'tokenCountMax'>): Uint8Array {
  return encode({
    tokenizer_class: 'XLMRobertaTokenizer',
    model_max_length: manifest.tokenCountMax,
    bos_token: '<s>',
    cls_token: '<s>',
    eos_token: '</s>',
    sep_token: '</s>',
    pad_token: '<pad>',
    unk_token: '<unk>',
    mask_token: '<mask>',
  });
}

/**
 * `config.json` for the default model: transformers.js takes the kind of model from it, people the
 * sizes.
 *
 * @returns UTF-8; the same bytes for the same weights.
 */
export function writeE5Config(weights: {
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly attentionHeadCount: number;
  readonly feedForwardSize: number;
  readonly vocabularySize: number;
  readonly positionCountMax: number;
}): Uint8Array {
  return encode({
    architectures: ['BertModel'],
    model_type: 'bert',
    hidden_size: weights.hiddenSize,
    num_hidden_layers: weights.layerCount,
    num_attention_heads: weights.attentionHeadCount,
    intermediate_size: weights.feedForwardSize,
    vocab_size: weights.vocabularySize,
    max_position_embeddings: weights.positionCountMax,
    tokenizer_class: 'XLMRobertaTokenizer',
  });
}

function encode(value: object): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
}
