import type { Head } from '../backend.ts';

/**
 * Every message between the main thread and an inference worker. Tensors are transferred both ways.
 */

/** First message to a worker: which model to load, and how. */
export interface InferenceGreeting {
  /** The ONNX file. */
  readonly modelPath: string;
  /** A copy of it whose weights are mapped: tried first. */
  readonly mappedPath?: string;
  readonly threadCount: number;
  /** Threads of a second session, for a text that has the machine to itself; 0 for none. */
  readonly wideThreadCount: number;
  /** Name of the output of each head that the model has. */
  readonly outputs: { readonly [H in Head]?: string };
  readonly dimension: number;
}

/** What a worker found in the graph. */
export interface InferenceFacts {
  readonly outputNames: readonly string[];
  /** Why the mapped copy is not what runs, although there is one. */
  readonly mappedRefusal?: string;
}

/** What a worker may be told after the greeting: to compute, or to end once it has. */
export type InferenceMessage = InferenceJob | 'end';

/** One padded batch. */
export interface InferenceJob {
  readonly jobId: number;
  readonly textCount: number;
  readonly paddedLength: number;
  /** `[textCount, paddedLength]` as int64, little-endian, low word first. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** The same shape and form: 1 for a token, 0 for padding. */
  readonly mask: Int32Array<ArrayBuffer>;
  readonly heads: readonly Head[];
  /** Nothing else is being computed: the wide session may have all cores. */
  readonly isAlone: boolean;
}

/** One array for each head that was asked for, in the shapes of `BatchOutput`. */
export type InferenceOutputs = { readonly [H in Head]?: Float32Array<ArrayBuffer> };

/** The answer to one job, or why there is none. */
export type InferenceReply = { readonly jobId: number } & (
  | { readonly outputs: InferenceOutputs }
  | { readonly reason: string }
);
