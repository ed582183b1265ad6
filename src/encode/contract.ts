import type { Admission } from '../admission/admission.ts';
import type { Backend } from '../backend/contract.ts';
import type { Cancellation, Clock } from '../base/clock.ts';
import type { MicroBatcher } from '../batcher/micro-batcher.ts';
import type { ModelManifest } from '../model/manifest.ts';
import type { RequestTrace } from '../observe/tracing.ts';
import type { HalfVector, MultiVector } from '../reply/reply-content.ts';
import type { TokenizerPool } from '../tokenizer/pool/tokenizer-pool.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import type { Head } from '../vectors/output.ts';
import type { SparseWeights } from '../vectors/sparse.ts';

/** What an API asks of the journey. */
export interface EncodeRequest {
  /** At least one, all well-formed Unicode. */
  readonly texts: readonly string[];
  /** The side of an over-long text that is cut off. Default: right. */
  readonly truncationSide?: 'left' | 'right';
  /** What to compute: canonical, as `headSet` gives it. */
  readonly heads: readonly Head[];
  /** Which of the model's prefixes each text gets. */
  readonly inputType: 'query' | 'passage';
  /** The same for the first text, where it differs: a query that is scored against passages. */
  readonly firstInputType?: 'query' | 'passage';
  /** Whether a text over its tokens is cut; otherwise it is an error. */
  readonly truncate: boolean;
  /** The same for the first text, where it differs. */
  readonly firstTruncate?: boolean;
  /**
   * The most tokens of a text, special tokens included: at least 3. Default and maximum: the
   * model's.
   */
  readonly tokenCountMax?: number | undefined;
  /** The same for the first text, where it differs. */
  readonly firstTokenCountMax?: number | undefined;
  /** Encodes empty texts where EMPTY_TEXTS says null: a score needs a row. Default: false. */
  readonly needsEveryRow?: boolean;
  /** The most texts of this request in one batch; undefined leaves it to the backend. */
  readonly batchTextsMax: number | undefined;
  /** The most float32 values that the outputs may have. */
  readonly valueCountMax: number;
  /** How long the caller waits, in ms. Default and maximum: the server's own deadline. */
  readonly timeoutMs?: number | undefined;
  /** Computes every text for this request alone, and keeps none of their rows. Default: false. */
  readonly bypassesCache?: boolean;
  /** Its texts wait for those of all others. Default: false. */
  readonly isBackground?: boolean;
  /** Fires when the caller hangs up. */
  readonly signal: AbortSignal | undefined;
  /** The name of a key, or an address: no caller gets more than its share of a full queue. */
  readonly caller?: string | undefined;
  /** The field that a text came in, for errors: `query`, `query[3]`. */
  readonly fieldOf: (index: number) => string;
  /** The request's trace, when it is traced. */
  readonly trace?: RequestTrace | undefined;
  /** What the API does with the outputs while the request still has its place in the queue. */
  readonly followUp?: FollowUp;
}

/** Work on the outputs of a request that takes time or memory of its own. */
export interface FollowUp {
  /** Called before any output is computed, with the kept tokens of each text. May refuse. */
  plan(keptCounts: readonly number[]): void;
  /** Runs before the place is given back. It checks by itself whether the request has ended. */
  run(result: EncodeResult, cancellation: Cancellation): Promise<void>;
}

/** What the journey answers: one entry a text, in order, for each head that was asked for. */
export interface EncodeResult {
  /**
   * `[dimension]` float32 each, normalised; views that stay valid until `giveBack`. One of length 0
   * stands for an empty text with EMPTY_TEXTS=null.
   */
  readonly rows?: readonly Float32Array[] | undefined;
  readonly sparse?: readonly SparseWeights[] | undefined;
  /** A vector for each kept token of a text but the first. */
  readonly multiVectors?: readonly MultiVector[] | undefined;
  /** The same as float16, in their place, where `heads` asks for halves. */
  readonly halfVectors?: readonly HalfVector[] | undefined;
  /** Tokens of each text before truncation, prefix and special tokens included. */
  readonly tokenCounts: readonly number[];
  readonly truncated: readonly boolean[];
  /** Of which texts nothing was left to encode; undefined when of all something was. */
  readonly empty?: readonly boolean[] | undefined;
  /** Who ran the request's last batch: an endpoint's address, or `embedded`. */
  readonly servedBy: string | undefined;
  /**
   * Who stood in for the backend, told in a header; undefined when the backend itself answered.
   */
  readonly standIn?: string | undefined;
  readonly timings: StageTimings;
  /**
   * Lets other requests have the memory of the numbers. Called by who knows that nobody reads them
   * again, or by nobody: then the memory is collected.
   */
  readonly giveBack: () => void;
}

/** How long a request spent in each stage, in ms. */
export interface StageTimings {
  readonly tokenizeMs: number;
  /** Until its last text left for the backend. */
  readonly queueMs: number;
  /** The longest batch that one of its texts rode in. */
  readonly inferMs: number;
  /** Texts whose rows were known; undefined where there is no cache. */
  readonly cachedTextCount?: number | undefined;
  /** Texts that got the rows of equal ones, which waited or ran when they came. Default: 0. */
  readonly coalescedTextCount?: number;
}

/** The parts that a request passes through, in order. */
export interface Parts {
  readonly admission: Admission;
  /** Of background texts: they take no place of the others', and get none. */
  readonly backgroundAdmission: Admission;
  readonly tokenizer: TokenizerPool;
  /** Pieces and decoding; undefined for a tokenizer that could not be compiled. */
  readonly vocabulary: CompiledTokenizer | undefined;
  readonly batcher: MicroBatcher;
  readonly backend: Backend;
  readonly manifest: ModelManifest;
  readonly clock: Clock;
  readonly limits: {
    readonly requestTimeoutMs: number;
    readonly textCharactersMax: number;
    /** EMPTY_TEXTS. Each such text is told, whatever is done with it. */
    readonly emptyTexts: 'encode' | 'refuse' | 'null';
  };
}

/** The journey of one request: from texts to checked rows. */
export type Encode = (request: EncodeRequest) => Promise<EncodeResult>;
