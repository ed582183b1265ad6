import type { ShownTokens } from '../xlmr/shown-tokens.ts';

/**
 * Every message between the main thread and a tokenizer worker. Strings go in, since Bun copies
 * plain strings fast; typed arrays come out and are transferred, never copied.
 */

/** First message to a worker: which tokenizer to use. A compiled one is shared, not loaded. */
export type TokenizerGreeting =
  | { readonly kind: 'compiled'; readonly tables: SharedArrayBuffer }
  | { readonly kind: 'transformers.js'; readonly modelsDir: string; readonly modelId: string };

/** What a worker says of itself once it is ready. */
export interface TokenizerFacts {
  /** Which code tokenizes. */
  readonly engine: TokenizerGreeting['kind'];
}

/** Texts to tokenize; `explain` asks for offsets too, which takes several times longer. */
export interface TokenizerJob {
  readonly kind: 'encode' | 'explain';
  readonly jobId: number;
  readonly texts: readonly string[];
  readonly options: TokenizerOptions;
}

/** How texts are tokenized. */
export interface TokenizerOptions {
  /**
   * Ids kept for each text, special tokens included; for `explain`, those of all texts together,
   * beyond which there is no answer.
   */
  readonly tokenCountMax: number;
  /** The side of a text that is cut off when it is too long. */
  readonly truncationSide: 'left' | 'right';
  /** Whether the template's tokens (`<s>`, `</s>`) stand around each text. */
  readonly specialTokens: boolean;
}

/** Token ids of some texts, one after the other. */
export interface EncodedTexts {
  /** The kept ids of all texts. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** How many ids each text kept; their sum is the length of `ids`. */
  readonly keptCounts: Int32Array<ArrayBuffer>;
  /** How many ids each text has without truncation. */
  readonly fullCounts: Int32Array<ArrayBuffer>;
}

/** The answer to one job, in its kind, or why there is none. */
export type TokenizerReply = { readonly jobId: number } & (
  | { readonly encoded: EncodedTexts }
  | { readonly explained: ShownTokens }
  | { readonly reason: string }
);
