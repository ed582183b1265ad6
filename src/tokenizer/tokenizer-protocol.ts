/**
 * Every message between the main thread and a tokenizer worker. Strings go in, since Bun copies plain strings fast; typed
 * arrays come out and are transferred, never copied.
 */

/** First message to a worker: which tokenizer to load. */
export interface TokenizerGreeting {
  readonly modelsDir: string;
  readonly modelId: string;
}

/** What a worker says of itself once it is ready. */
export interface TokenizerFacts {
  /** Which code tokenizes. */
  readonly engine: 'transformers.js';
}

/** Texts to tokenize. */
export interface TokenizerJob {
  readonly jobId: number;
  readonly texts: readonly string[];
  /** Ids kept for each text, special tokens included. */
  readonly tokenCountMax: number;
}

/** Token ids of some texts, one after the other. */
export interface EncodedTexts {
  /** The kept ids of all texts, special tokens included. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** How many ids each text kept; their sum is the length of `ids`. */
  readonly keptCounts: Int32Array<ArrayBuffer>;
  /** How many ids each text has without truncation. */
  readonly fullCounts: Int32Array<ArrayBuffer>;
}

/** The answer to one job. */
export type TokenizerReply = { readonly jobId: number } & (
  | { readonly encoded: EncodedTexts }
  | { readonly reason: string }
);
