/** Every message between the main thread and an inference worker. Tensors are transferred both ways. */

/** First message to a worker: which model to load, and how. */
export interface InferenceGreeting {
  /** The ONNX file. */
  readonly modelPath: string;
  readonly threadCount: number;
  /** Name of the dense output; undefined leaves the choice to the graph's own names and shapes. */
  readonly denseOutput: string | undefined;
  readonly dimension: number;
}

/** What a worker found in the graph. */
export interface InferenceFacts {
  readonly denseOutput: string;
}

/** One padded batch. */
export interface InferenceJob {
  readonly jobId: number;
  readonly textCount: number;
  readonly paddedLength: number;
  /** `[textCount, paddedLength]` as int64, little-endian, low word first. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** The same shape and form: 1 for a token, 0 for padding. */
  readonly mask: Int32Array<ArrayBuffer>;
}

/** The answer to one job: `[textCount, dimension]`, or why there is none. */
export type InferenceReply = { readonly jobId: number } & (
  | { readonly dense: Float32Array<ArrayBuffer> }
  | { readonly reason: string }
);
