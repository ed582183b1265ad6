import type { Admission } from '../admission/admission.ts';
import type { Backend, Head } from '../backend/backend.ts';
import type { Clock } from '../base/clock.ts';
import { Deadlines } from '../base/deadlines.ts';
import { createLifetime, type Lifetime } from '../base/lifetime.ts';
import type { MicroBatcher } from '../batcher/micro-batcher.ts';
import type { ModelManifest } from '../model/manifest.ts';
import type { TokenizerPool } from '../tokenizer/pool/tokenizer-pool.ts';
import type { CompiledTokenizer } from '../tokenizer/xlmr/compiled-tokenizer.ts';
import type { SparseWeights } from '../vectors/sparse.ts';
import {
  demandOf,
  joinOutputs,
  refuseLargeReply,
  refuseLongTexts,
  refuseManyTokens,
  refuseMissingHeads,
  refuseWhileDown,
  withPrefix,
} from './checks.ts';

/** What a front door asks of the journey. */
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
  /** What the front door calls the texts, so that an error names its field: `query`, `query[3]`. */
  readonly fieldOf: (index: number) => string;
  /** What the front door makes of the outputs while they still take their place in the queue. */
  readonly followUp?: FollowUp;
}

/** Work on the outputs of a request that takes time or memory of its own. */
export interface FollowUp {
  /** Asked before any output is computed, with the tokens kept of each text; throws a refusal. */
  plan(keptCounts: readonly number[]): void;
  /** Done before the place is given back. Looks itself whether the lifetime has ended. */
  run(result: EncodeResult, lifetime: Lifetime): Promise<void>;
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
  /** Who stood in for the backend that should have; told in a header. Undefined when nobody did. */
  readonly standIn?: 'embedded' | undefined;
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

/**
 * Makes the journey out of its parts.
 *
 * It throws ServerError: EMB_HEAD_UNAVAILABLE, EMB_TEXT_TOO_LONG, EMB_REPLY_TOO_LARGE,
 * EMB_QUEUE_FULL, EMB_SHUTTING_DOWN, EMB_TOKENIZER_FAILED, EMB_BACKEND_*, EMB_OUTPUT_INVALID,
 * EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED; and what a follow-up throws.
 */
export function createEncode(parts: Parts): Encode {
  const { admission, tokenizer, batcher, clock, limits } = parts;
  const deadlines = new Deadlines(clock);
  return async function encode(request) {
    refuseWhileDown(parts);
    refuseMissingHeads(parts, request);
    refuseLongTexts(parts, request);
    const permit = admission.admit(demandOf(parts, request));
    const { signal, heads, truncationSide, followUp } = request;
    const timeoutMs = Math.min(request.timeoutMs ?? Infinity, limits.requestTimeoutMs);
    const lifetime = createLifetime({ clock: deadlines, timeoutMs, signal });
    let isWorked = false;
    try {
      const startMs = clock.now();
      const prefixed = withPrefix(parts, request);
      const tokenized = await tokenizer.tokenize(prefixed, lifetime, truncationSide);
      const tokenizeMs = clock.now() - startMs;
      refuseManyTokens(parts, request, tokenized);
      refuseLargeReply(parts, request, tokenized);
      const texts = tokenized.map((text) => text.tokenIds);
      followUp?.plan(texts.map((ids) => ids.length));
      const batchTextsMax = request.batchTextsMax ?? Number.POSITIVE_INFINITY;
      const job = await batcher.submit({ texts, heads, batchTextsMax, lifetime });
      const { outcomes, queueMs, inferMs, servedBy } = job;
      const outputs = joinOutputs(request, { tokenized, outcomes });
      isWorked = true;
      const isStandIn = servedBy === 'embedded' && parts.backend.name !== 'embedded';
      const standIn = isStandIn ? 'embedded' : undefined;
      const timings = { tokenizeMs, queueMs, inferMs };
      const result: EncodeResult = { ...outputs, servedBy, standIn, timings };
      if (followUp !== undefined) await followUp.run(result, lifetime);
      return result;
    } finally {
      lifetime.release();
      permit.release(isWorked);
    }
  };
}
