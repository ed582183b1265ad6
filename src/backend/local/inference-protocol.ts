import type { Head } from '../../vectors/output.ts';

/**
 * Every message between the main thread and an inference worker: Init in, Ready out, then Requests
 * in and Responses out, and Shutdown in. Tensors are transferred both ways, never copied.
 */

/** The first message to a worker: which model to load, and how. */
export interface InferenceInit {
  /** The ONNX file. */
  readonly modelPath: string;
  /** A copy of it whose weights are mapped: tried first. */
  readonly mappedPath?: string;
  /** What the file of `modelPath` must hash to; undefined for one that is not checked at start. */
  readonly modelSha256?: string;
  readonly threadCount: number;
  /** Threads of a second session, for a text that has the machine to itself; 0 for none. */
  readonly wideThreadCount: number;
  /** Name of the output of each head that the model has. */
  readonly outputs: { readonly [H in Head]?: string };
  readonly dimension: number;
}

/** What a worker says of its model once it is ready. */
export interface InferenceReady {
  readonly outputNames: readonly string[];
  /** Why the mapped copy is not what runs, although there is one. */
  readonly mappedRefusal?: string;
}

/**
 * Asks a worker to end by itself, after what it does now: ONNX Runtime does not survive that its
 * thread is terminated while it computes.
 */
export type InferenceShutdown = 'shutdown';

/** Every message to a worker after Init. */
export type InferenceMessage = InferenceRequest | InferenceShutdown;

/** The token ids of some texts, joined. */
export interface JoinedTokenIds {
  /** Of all texts, one after the other, as int64: little-endian, low word first. */
  readonly tokenIds: Int32Array<ArrayBuffer>;
  /** One for each text. */
  readonly tokenCounts: readonly number[];
}

/** Texts to be computed one by one. */
export interface InferenceRequest extends JoinedTokenIds {
  readonly messageId: number;
  readonly heads: readonly Head[];
  /** Nothing else is being computed: the wide session may have all cores. */
  readonly isAlone: boolean;
}

/** Joins the token ids of some texts. No BigInt is made for any token: an id fits its low word. */
export function joinTokenIds(idsOfTexts: readonly ArrayLike<number>[]): JoinedTokenIds {
  const tokenCounts = idsOfTexts.map(({ length }) => length);
  const tokenIds = new Int32Array(2 * tokenCounts.reduce((sum, count) => sum + count, 0));
  let at = 0;
  for (const ids of idsOfTexts) {
    for (let index = 0; index < ids.length; index++, at += 2) tokenIds[at] = ids[index];
  }
  return { tokenIds, tokenCounts };
}

/**
 * One array for each head that was asked for, in the shapes of `BatchOutput`; the padded length is
 * that of the longest text.
 */
export type InferenceOutputs = { readonly [H in Head]?: Float32Array<ArrayBuffer> };

/** The response to one request, or why there is none. */
export type InferenceResponse = { readonly messageId: number } & (
  | { readonly outputs: InferenceOutputs }
  | { readonly reason: string }
);
