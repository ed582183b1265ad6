import type { EncodedTexts, EncodeOptions } from '../xlmr/compiled-tokenizer.ts';
import type { ShownTokens } from '../xlmr/shown-tokens.ts';

/**
 * Every message between the main thread and a tokenizer worker: Init in, Ready out, then Requests
 * in and Responses out. Texts go in as strings, which Bun copies fast. Typed arrays come out and
 * are transferred, never copied. A worker is terminated, so there is no Shutdown.
 */

/** The first message to a worker: which tokenizer to use. A compiled one is shared, not loaded. */
export type TokenizerInit =
  | { readonly kind: 'compiled'; readonly tables: SharedArrayBuffer }
  | { readonly kind: 'transformers.js'; readonly modelsDir: string; readonly modelId: string };

/** What a worker says of itself once it is ready. */
export interface TokenizerReady {
  /** The code that tokenizes. */
  readonly engine: TokenizerInit['kind'];
}

/** Texts to tokenize. `explain` asks for offsets too, which takes several times longer. */
export interface TokenizerRequest {
  readonly kind: 'encode' | 'explain';
  readonly messageId: number;
  readonly texts: readonly string[];
  /** For `explain`, `tokenCountMax` is the limit of all texts together; beyond it is no answer. */
  readonly options: EncodeOptions;
}

/** The response to one request, in its kind, or why there is none. */
export type TokenizerResponse = { readonly messageId: number } & (
  | { readonly encoded: EncodedTexts }
  | { readonly explained: ShownTokens }
  | { readonly reason: string }
);
