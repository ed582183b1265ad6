import type { Head } from '../../vectors/head.ts';

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

/** The token ids of some texts. */
export interface JobTokens {
  /** Of all texts, one after the other, as int64: little-endian, low word first. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** One for each text. */
  readonly tokenCounts: readonly number[];
}

/** Texts to be computed one by one. */
export interface InferenceJob extends JobTokens {
  readonly jobId: number;
  readonly heads: readonly Head[];
  /** Nothing else is being computed: the wide session may have all cores. */
  readonly isAlone: boolean;
}

/** Puts texts into the form of a job. No BigInt is made for any token: an id fits its low word. */
export function tokensOfJob(texts: readonly ArrayLike<number>[]): JobTokens {
  const tokenCounts = texts.map(({ length }) => length);
  const ids = new Int32Array(2 * tokenCounts.reduce((sum, count) => sum + count, 0));
  let at = 0;
  for (const text of texts) {
    for (let index = 0; index < text.length; index++, at += 2) ids[at] = text[index];
  }
  return { ids, tokenCounts };
}

/**
 * One array for each head that was asked for, in the shapes of `BatchOutput`; the padded length is
 * that of the longest text.
 */
export type InferenceOutputs = { readonly [H in Head]?: Float32Array<ArrayBuffer> };

/** The answer to one job, or why there is none. */
export type InferenceReply = { readonly jobId: number } & (
  | { readonly outputs: InferenceOutputs }
  | { readonly reason: string }
);
