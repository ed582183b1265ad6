import type { Admission } from '../admission/admission.ts';
import type { Backend } from '../backend/backend.ts';
import type { Cancellation } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import type { MicroBatcher } from '../batcher/micro-batcher.ts';
import type { ModelManifest } from '../model/manifest.ts';
import type { RequestTrace } from '../observe/tracing.ts';
import type { TokenizerPool } from '../tokenizer/pool/tokenizer-pool.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import type { Head } from '../vectors/head.ts';
import type { SparseWeights } from '../vectors/sparse.ts';

/** What an API asks of the journey. */
export interface EncodeRequest {
  /** At least one; none empty, all well-formed Unicode. */
  readonly texts: readonly string[];
  /** The side of an over-long text that is cut off; the end unless told. */
  readonly truncationSide?: 'left' | 'right';
  /** What to compute: canonical, as `headSet` gives it. */
  readonly heads: readonly Head[];
  /** Which of the model's prefixes stands in front of each text. */
  readonly inputType: 'query' | 'passage';
  /** That of the first text where it differs: a query that is held against passages. */
  readonly firstInputType?: 'query' | 'passage';
  /** Whether a text over the model's tokens is cut; otherwise it is an error. */
  readonly truncate: boolean;
  /** Texts of this request in one batch, at most; undefined leaves it to the backend. */
  readonly batchTextsMax: number | undefined;
  /** Float32 values that the reply may carry. */
  readonly valueCountMax: number;
  /** How long the caller waits, in ms; at most, and unless told, the server's own deadline. */
  readonly timeoutMs?: number | undefined;
  /** Fires when the caller hangs up. */
  readonly signal: AbortSignal | undefined;
  /**
   * Whose request it is, the name of a key or an address: nobody takes more than a share of a full
   * queue.
   */
  readonly caller?: string | undefined;
  /**
   * What the front door calls the texts, so that an error names its field: `query`, `query[3]`.
   */
  readonly fieldOf: (index: number) => string;
  /** The request's trace, when it is traced. */
  readonly trace?: RequestTrace | undefined;
  /** What the API makes of the outputs while they still take their place in the queue. */
  readonly followUp?: FollowUp;
}

/** Work on the outputs of a request that takes time or memory of its own. */
export interface FollowUp {
  /** Asked before any output is computed, with the tokens kept of each text; throws a refusal. */
  plan(keptCounts: readonly number[]): void;
  /** Done before the place is given back. Looks itself whether the cancellation has ended. */
  run(result: EncodeResult, cancellation: Cancellation): Promise<void>;
}

/**
 * What the journey answers: one entry a text, in order; of the heads, those that were asked for.
 */
export interface EncodeResult {
  /** `[dimension]` float32 each, normalised; views that stay valid. */
  readonly rows?: readonly Float32Array[];
  readonly sparse?: readonly SparseWeights[];
  /** `[tokenCount, dimension]` float32 each: the kept tokens of a text but the first. */
  readonly multiVectors?: readonly { readonly tokenCount: number; readonly data: Float32Array }[];
  /** Tokens of each text before truncation, prefix and special tokens included. */
  readonly tokenCounts: readonly number[];
  readonly truncated: readonly boolean[];
  /** Who ran its last batch: an endpoint's address, `embedded`. */
  readonly servedBy: string | undefined;
  /**
   * Who stood in for the backend that should have; told in a header. Undefined when nobody did.
   */
  readonly standIn?: string | undefined;
  readonly timings: StageTimings;
}

/** How long a request spent in each stage, in ms. */
export interface StageTimings {
  readonly tokenizeMs: number;
  /** Until its last text left for the backend. */
  readonly queueMs: number;
  /** The longest batch that one of its texts rode in. */
  readonly inferMs: number;
}

/** The parts that a request passes through, in order. */
export interface Parts {
  readonly admission: Admission;
  readonly tokenizer: TokenizerPool;
  /** Pieces and decoding; undefined for a tokenizer that could not be compiled. */
  readonly vocabulary: CompiledTokenizer | undefined;
  readonly batcher: MicroBatcher;
  readonly backend: Backend;
  readonly manifest: ModelManifest;
  readonly clock: Clock;
  readonly limits: { readonly requestTimeoutMs: number; readonly textCharactersMax: number };
}

/** The journey of one request: from texts to checked rows. */
export type Encode = (request: EncodeRequest) => Promise<EncodeResult>;
