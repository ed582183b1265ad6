import type { Admission } from './admission/admission.ts';
import type { Backend } from './backend/backend.ts';
import { faultOfRow } from './backend/output-guard.ts';
import type { Clock } from './base/clock.ts';
import { ServerError } from './base/errors.ts';
import { createLifetime, type Lifetime } from './base/lifetime.ts';
import type { MicroBatcher, TextOutcome } from './batcher/micro-batcher.ts';
import type { ModelManifest } from './model/manifest.ts';
import type { TokenizedText, TokenizerPool } from './tokenizer/tokenizer-pool.ts';

/** What a front door asks of the journey. */
export interface EncodeRequest {
  /** At least one; none empty, all well-formed Unicode. */
  readonly texts: readonly string[];
  /** Which of the model's prefixes stands in front of each text. */
  readonly inputType: 'query' | 'passage';
  /** Whether a text over the model's tokens is cut; otherwise it is an error. */
  readonly truncate: boolean;
  /** Texts of this request in one batch, at most; undefined leaves it to the backend. */
  readonly batchTextsMax: number | undefined;
  /** Fires when the caller hangs up. */
  readonly signal: AbortSignal | undefined;
  /** What the front door calls the texts, so that an error names its field: `query`, `query[3]`. */
  readonly fieldOf: (index: number) => string;
}

/** What the journey answers: one entry a text, in order. */
export interface EncodeResult {
  /** `[dimension]` float32 each, normalised; views that stay valid. */
  readonly rows: readonly Float32Array[];
  /** Tokens of each text before truncation, prefix and special tokens included. */
  readonly tokenCounts: readonly number[];
  readonly truncated: readonly boolean[];
}

/** The parts that a request passes through, in order. */
export interface Parts {
  readonly admission: Admission;
  readonly tokenizer: TokenizerPool;
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
 * It throws ServerError: EMB_QUEUE_FULL, EMB_SHUTTING_DOWN, EMB_TEXT_TOO_LONG, EMB_TOKENIZER_FAILED, EMB_BACKEND_*,
 * EMB_OUTPUT_INVALID, EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED.
 */
export function createEncode(parts: Parts): Encode {
  return async function encode(request) {
    refuseLongTexts(parts, request);
    refuseWhileDown(parts.backend);
    const permit = parts.admission.admit(demandOf(parts.manifest, request));
    const lifetime = startLifetime(parts, request);
    try {
      const tokenized = await parts.tokenizer.tokenize(withPrefix(parts, request), lifetime);
      refuseManyTokens(parts, request, tokenized);
      const outcomes = await submit(parts.batcher, request, tokenized, lifetime);
      const rows = outcomes.map((outcome, index) => guard(parts, request, outcome, index));
      return {
        rows,
        tokenCounts: tokenized.map((text) => text.tokenCount),
        truncated: tokenized.map((text) => text.isTruncated),
      };
    } finally {
      lifetime.release();
      permit.release();
    }
  };
}

/** Characters past which no text can fit, refused before a single one is tokenized. */
function refuseLongTexts({ limits }: Parts, request: EncodeRequest): void {
  if (request.truncate) return;
  for (let index = 0; index < request.texts.length; index++) {
    const { length } = request.texts[index];
    if (length <= limits.textCharactersMax) continue;
    const field = request.fieldOf(index);
    throw new ServerError(
      'EMB_TEXT_TOO_LONG',
      `${field} has ${length} characters, the limit is ${limits.textCharactersMax} with truncate: false.`,
      { field, limit: limits.textCharactersMax, value: length },
    );
  }
}

/** A backend that is down is told at once, not after a wait in the queue. */
function refuseWhileDown(backend: Backend): void {
  const { isReady, reason } = backend.state();
  if (isReady) return;
  throw new ServerError('EMB_BACKEND_UNAVAILABLE', 'The backend is down or still loading.', {
    retryAfterMs: 1000,
    cause: new Error(reason),
  });
}

/** Characters of a token, on the low side for Russian and English prose, so that tokens are over-estimated. */
const CHARACTERS_PER_TOKEN = 3;

function demandOf(manifest: ModelManifest, request: EncodeRequest) {
  let tokenCount = 0;
  for (const text of request.texts) {
    tokenCount += Math.min(
      manifest.tokenCountMax,
      2 + Math.ceil(text.length / CHARACTERS_PER_TOKEN),
    );
  }
  return { textCount: request.texts.length, tokenCount };
}

function startLifetime({ clock, limits }: Parts, { signal }: EncodeRequest): Lifetime {
  return createLifetime({ clock, timeoutMs: limits.requestTimeoutMs, signal });
}

function withPrefix({ manifest }: Parts, { texts, inputType }: EncodeRequest): readonly string[] {
  const prefix = manifest.prefixes[inputType];
  return prefix === '' ? texts : texts.map((text) => prefix + text);
}

function refuseManyTokens(
  { manifest }: Parts,
  request: EncodeRequest,
  tokenized: readonly TokenizedText[],
): void {
  if (request.truncate) return;
  const index = tokenized.findIndex((text) => text.isTruncated);
  if (index < 0) return;
  const field = request.fieldOf(index);
  const { tokenCount } = tokenized[index];
  throw new ServerError(
    'EMB_TEXT_TOO_LONG',
    `${field} has ${tokenCount} tokens, the limit of ${manifest.id} is ${manifest.tokenCountMax}.`,
    { field, limit: manifest.tokenCountMax, value: tokenCount },
  );
}

function submit(
  batcher: MicroBatcher,
  request: EncodeRequest,
  tokenized: readonly TokenizedText[],
  lifetime: Lifetime,
): Promise<readonly TextOutcome[]> {
  const texts = tokenized.map((text) => text.ids);
  const batchTextsMax = request.batchTextsMax ?? Number.POSITIVE_INFINITY;
  return batcher.submit({ texts, batchTextsMax, lifetime });
}

/** A bad row is an error for its text alone, never a vector. */
function guard(
  { manifest }: Parts,
  request: EncodeRequest,
  outcome: TextOutcome,
  index: number,
): Float32Array {
  if (outcome instanceof ServerError) throw outcome;
  const { dimension, normalized } = manifest;
  const fault = faultOfRow(outcome.dense, { dimension, isNormalized: normalized });
  if (fault === undefined) return outcome.dense;
  const field = request.fieldOf(index);
  throw new ServerError('EMB_OUTPUT_INVALID', `The row of ${field} ${fault}; it is withheld.`, {
    field,
  });
}
