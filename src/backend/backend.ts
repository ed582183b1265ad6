/**
 * What the batcher and the journey know of a backend. Both backends, and every fake, pass `testing/contract/backend`.
 */
export interface Backend {
  readonly name: 'triton' | 'embedded';
  /** What it likes; read anew for each batch, since an engine that comes back may like something else. */
  limits(): BackendLimits;
  /** Whether a batch sent now is expected to succeed, and why not. */
  state(): BackendState;
  /**
   * Runs one batch.
   *
   * @param batch borrowed until the promise settles.
   * @returns rows owned by the caller.
   * @throws ServerError EMB_BACKEND_UNAVAILABLE, EMB_BACKEND_TIMEOUT, EMB_BACKEND_FAILED or EMB_OUTPUT_INVALID.
   */
  infer(batch: TokenBatch): Promise<BatchOutput>;
  /** Lets go of sockets and workers. Batches in flight fail. */
  close(): Promise<void>;
}

/** What a backend likes to be given. */
export interface BackendLimits {
  /** Batches that may be in flight at once. */
  readonly slotCount: number;
  /** Texts in one batch. */
  readonly batchTextsMax: number;
  /** Padded tokens (longest × texts) in one batch; one text alone may exceed it. */
  readonly batchTokensMax: number;
  /** How many padded tokens one launch is worth: below that much padding, two batches are better sent as one. */
  readonly launchTokens: number;
  /** Pads to the exact longest text instead of the shared lengths of `paddedLength`. */
  readonly isExactLength: boolean;
}

/** Ready, or what stands in the way. */
export interface BackendState {
  readonly isReady: boolean;
  /** One sentence for an operator; empty when ready. */
  readonly reason: string;
}

/** Token ids of some texts, to be padded to one length. */
export interface TokenBatch {
  /** One array of token ids for each text, special tokens included; borrowed. Each has at least one id. */
  readonly texts: readonly Int32Array[];
  /** Length that every text is padded to; at least the longest. */
  readonly paddedLength: number;
}

/** What a backend answers. */
export interface BatchOutput {
  /** Row-major `[textCount, dimension]` float32, in the order of the batch. */
  readonly dense: Float32Array;
}
