import type { Demand } from '../admission/admission.ts';
import { type Cancellation, createCancellation, Deadlines } from '../base/clock.ts';
import { backendDown, ServerError } from '../base/errors.ts';
import { whyTooMuch } from '../batcher/pacing.ts';
import type { JobResult } from '../batcher/pending-request.ts';
import type { ModelManifest } from '../model/manifest.ts';
import type { HalfVector, MultiVector } from '../reply/reply-content.ts';
import type { TokenizedText } from '../tokenizer/pool/tokenizer-pool.ts';
import { areEqual, areHalved, HALVES_ROOM_BYTES, valuesPerText } from '../vectors/output.ts';
import { joinTokenWeights, type SparseWeights } from '../vectors/sparse.ts';
import type { Encode, EncodeRequest, EncodeResult, Parts } from './contract.ts';
import { traceBatching, traceTokenize } from './encode-tracing.ts';

/** No text has a row. */
const NOTHING_TO_DO: Promise<JobResult> = Promise.resolve({
  outcomes: [],
  queueMs: 0,
  inferMs: 0,
  servedBy: undefined,
  giveBack: () => undefined,
  cachedTextCount: undefined,
  coalescedTextCount: 0,
});

/**
 * Makes the journey out of its parts.
 *
 * It throws ServerError: EMB_HEAD_UNAVAILABLE, EMB_TEXT_TOO_LONG, EMB_TEXT_EMPTY, EMB_TEXT_REFUSED,
 * EMB_REPLY_TOO_LARGE, EMB_QUEUE_FULL, EMB_SHUTTING_DOWN, EMB_TOKENIZER_FAILED, EMB_BACKEND_*,
 * EMB_OUTPUT_INVALID, EMB_DEADLINE_EXCEEDED or EMB_REQUEST_ABORTED; and what a follow-up throws.
 */
export function createEncode(parts: Parts): Encode {
  const { tokenizer, batcher, clock, limits } = parts;
  const deadlines = new Deadlines(clock);
  const emptyTexts = new EmptyTexts(parts);
  return async function encode(request) {
    refuseWhileDown(parts);
    refuseMissingHeads(parts, request);
    refuseLongTexts(parts, request);
    const { signal, heads, truncationSide, followUp, trace, caller } = request;
    const arrivedMs = clock.now();
    const { isBackground = false } = request;
    const admission = isBackground ? parts.backgroundAdmission : parts.admission;
    // What is known at once is not waited for: each `await` costs a turn of the microtasks.
    const entered = admission.enter(demandOf(parts, request), signal);
    const permit = entered instanceof Promise ? await entered : entered;
    const startMs = clock.now();
    // The caller's own deadline counts from its arrival, the server's from here.
    const leftMs = (request.timeoutMs ?? Infinity) - (startMs - arrivedMs);
    const timeoutMs = Math.min(leftMs, limits.requestTimeoutMs);
    const cancellation = createCancellation({ clock: deadlines, timeoutMs, signal });
    try {
      const prefixed = withPrefix(parts, request);
      const given = tokenizer.tokenize(prefixed, cancellation, truncationSide);
      const tokenizing = trace ? traceTokenize(trace, given, clock) : given;
      const whole = tokenizing instanceof Promise ? await tokenizing : tokenizing;
      if (!emptyTexts.isLearned) await emptyTexts.learn(cancellation);
      const empty = emptyTexts.find(request, whole);
      const tokenized = cutToRequest(parts, request, whole);
      const tokenizeMs = clock.now() - startMs;
      refuseManyTokens(parts, request, tokenized);
      refuseLargeReply(parts, request, tokenized);
      const tokenIds = idsToCompute(tokenized, empty);
      followUp?.plan(tokenIds.map((ids) => ids.length));
      const { batchTextsMax = Number.POSITIVE_INFINITY, bypassesCache = false } = request;
      const planned = (tokenCount: number): void => {
        permit.tokenized(tokenCount);
        const { drain } = isBackground ? batcher.background : batcher.foreground;
        const reason = whyTooMuch(drain, { tokenCount, timeoutMs });
        if (reason !== undefined) cancellation.end(reason);
      };
      const whose = { isBackground, caller, cancellation, trace };
      const work = { ...whose, tokenIds, heads, batchTextsMax, bypassesCache, planned };
      const batching = tokenIds.length === 0 ? NOTHING_TO_DO : batcher.submit(work);
      const job = await (trace ? traceBatching(trace, batching, clock) : batching);
      const standIn = job.servedBy === parts.backend.standIn ? job.servedBy : undefined;
      const result = resultOf(request, { tokenized, job, empty, standIn, tokenizeMs });
      if (followUp !== undefined) await followUp.run(result, cancellation);
      return result;
    } finally {
      cancellation.release();
      permit.release();
    }
  };
}

/** Refuses at once while the backend or the tokenizer is down, not after a wait in the queue. */
function refuseWhileDown({ backend, tokenizer }: Parts): void {
  const reason = backend.state().reason || tokenizer.reason;
  if (reason !== '') throw backendDown(reason);
}

/** Refuses a head that the running model lacks. */
function refuseMissingHeads({ backend, manifest }: Parts, { heads }: EncodeRequest): void {
  const available = backend.capabilities().heads;
  const missing = heads.find((head) => !available.includes(head));
  if (missing === undefined) return;
  const known = available.join(', ');
  throw new ServerError(
    'EMB_HEAD_UNAVAILABLE',
    `${manifest.id} on ${backend.name} has no output "${missing}"; it has ${known}.`,
    { field: 'outputs', limit: known, value: missing },
  );
}

/** Refuses a text that is too long to fit, whatever its tokens: before any is tokenized. */
function refuseLongTexts({ limits }: Parts, request: EncodeRequest): void {
  for (const [index, { length }] of request.texts.entries()) {
    if (length <= limits.textCharactersMax || isCut(request, index)) continue;
    const field = request.fieldOf(index);
    throw new ServerError(
      'EMB_TEXT_TOO_LONG',
      `${field} has ${length} characters, the limit is ${limits.textCharactersMax} with truncate: false.`,
      { field, limit: limits.textCharactersMax, value: length },
    );
  }
}

/** Characters a token: fewer than Russian and English prose has, so tokens are over-estimated. */
const CHARACTERS_PER_TOKEN = 3;

/** What a UTF-16 unit of a text takes in memory; half of it where all are Latin. */
const BYTES_PER_UNIT = 2;

/**
 * What a request asks of the admission. Its tokens are not known yet, so they are estimated. A
 * text that will be cut is held and tokenized whole, so `tokenCount` has all its tokens; the model
 * sees only `workTokenCount`.
 */
function demandOf({ manifest }: Parts, request: EncodeRequest): Demand {
  let tokenCount = 0;
  let workTokenCount = 0;
  let byteCount = 0;
  for (let index = 0; index < request.texts.length; index++) {
    const { length } = request.texts[index];
    const estimate = 2 + Math.ceil(length / CHARACTERS_PER_TOKEN);
    tokenCount += estimate;
    byteCount += BYTES_PER_UNIT * length;
    workTokenCount += Math.min(tokenLimitOf(manifest, request, index), estimate);
  }
  const { caller, timeoutMs } = request;
  const textCount = request.texts.length;
  return { textCount, tokenCount, workTokenCount, byteCount, caller, timeoutMs };
}

/** The texts with the model's prefixes before them. */
function withPrefix(
  { manifest }: Parts,
  { texts, inputType, firstInputType = inputType }: EncodeRequest,
): readonly string[] {
  const prefix = manifest.prefixes[inputType];
  const first = manifest.prefixes[firstInputType];
  if (prefix === '' && first === '') return texts;
  return texts.map((text, index) => (index === 0 ? first : prefix) + text);
}

/** Whether a text of a request is cut where it has too many tokens. */
function isCut({ truncate, firstTruncate = truncate }: EncodeRequest, index: number): boolean {
  return index === 0 ? firstTruncate : truncate;
}

/** The most tokens that a text of a request may have: its own limit, or the model's. */
function tokenLimitOf(manifest: ModelManifest, request: EncodeRequest, index: number): number {
  const { tokenCountMax, firstTokenCountMax = tokenCountMax } = request;
  return (index === 0 ? firstTokenCountMax : tokenCountMax) ?? manifest.tokenCountMax;
}

/**
 * Cuts texts to the request's own limits, as the tokenizer has cut them to the model's: the opening
 * and the closing special token stay. The tokenizer's messages carry the texts of many requests, so
 * they know one limit. Without limits of its own a request has nothing copied.
 */
export function cutToRequest(
  { manifest }: Parts,
  request: EncodeRequest,
  tokenized: readonly TokenizedText[],
): readonly TokenizedText[] {
  const { tokenCountMax, firstTokenCountMax } = request;
  if (tokenCountMax === undefined && firstTokenCountMax === undefined) return tokenized;
  return tokenized.map((text, index) => {
    const limit = tokenLimitOf(manifest, request, index);
    const { tokenIds, tokenCount } = text;
    if (tokenIds.length <= limit) return text;
    const kept = tokenIds.slice(0, limit);
    if (request.truncationSide === 'left') kept.set(tokenIds.subarray(1 - limit), 1);
    else kept[limit - 1] = tokenIds[tokenIds.length - 1];
    return { tokenIds: kept, tokenCount, isTruncated: true };
  });
}

/**
 * Refuses a text that takes more memory than there is, also one that was cut; and with `truncate:
 * false` one over its tokens. Names its field.
 */
function refuseManyTokens(
  { manifest, backend }: Parts,
  request: EncodeRequest,
  tokenized: readonly TokenizedText[],
): void {
  const { textTokensMax: fitting = Number.POSITIVE_INFINITY } = backend.capabilities();
  const large = tokenized.findIndex(({ tokenIds }) => tokenIds.length > fitting);
  if (large >= 0) {
    const [field, value] = [request.fieldOf(large), tokenized[large].tokenIds.length];
    throw new ServerError(
      'EMB_TEXT_TOO_LONG',
      `${field} has ${value} tokens; ${fitting} fit the memory that EMBEDDED_MEMORY_MB allows.`,
      { field, limit: fitting, value },
    );
  }
  const index = tokenized.findIndex((text, at) => text.isTruncated && !isCut(request, at));
  if (index < 0) return;
  const [field, value] = [request.fieldOf(index), tokenized[index].tokenCount];
  const limit = tokenLimitOf(manifest, request, index);
  const ofWhom = limit < manifest.tokenCountMax ? 'of the request' : `of ${manifest.id}`;
  throw new ServerError(
    'EMB_TEXT_TOO_LONG',
    `${field} has ${value} tokens, the limit ${ofWhom} is ${limit}.`,
    { field, limit, value },
  );
}

/**
 * Refuses a request whose outputs would be over its limit of float32 values. The tokens are known
 * by then, and nothing is computed yet.
 */
function refuseLargeReply(
  { manifest }: Parts,
  { heads, valueCountMax }: EncodeRequest,
  tokenized: readonly TokenizedText[],
): void {
  let valueCount = 0;
  for (const { tokenIds } of tokenized) {
    const size = { dimension: manifest.dimension, paddedLength: tokenIds.length };
    for (const head of heads) valueCount += valuesPerText(head, size);
  }
  if (valueCount <= valueCountMax) return;
  throw new ServerError(
    'EMB_REPLY_TOO_LARGE',
    `The outputs would be ${valueCount} numbers, the limit for this reply is ${valueCountMax}. ` +
      'Send fewer texts at a time, or ask for fewer outputs.',
    { field: 'outputs', limit: valueCountMax, value: valueCount },
  );
}

/** The token ids of all texts but those that have no row. */
function idsToCompute(
  tokenized: readonly TokenizedText[],
  empty: FoundEmpty | undefined,
): readonly Int32Array[] {
  const isSkipped = empty?.areSkipped === true;
  const kept: Int32Array[] = [];
  tokenized.forEach(({ tokenIds }, index) => {
    if (!isSkipped || !empty.flags[index]) kept.push(tokenIds);
  });
  return kept;
}

/**
 * What became of a request: the outputs of all texts, as the caller asked for them. The batcher has
 * checked each.
 *
 * @throws ServerError of the first text that got an error; it names the text's field.
 */
function resultOf(
  request: EncodeRequest,
  work: {
    tokenized: readonly TokenizedText[];
    /** Its outcomes are of the texts that were computed, in order. */
    job: JobResult;
    empty: FoundEmpty | undefined;
    standIn: string | undefined;
    tokenizeMs: number;
  },
): EncodeResult {
  const { tokenized, job, empty, standIn, tokenizeMs } = work;
  const { heads, fieldOf } = request;
  const hasVectors = heads.includes('multi_vector');
  const isHalved = areHalved(heads);
  const rows = heads.includes('dense') ? ([] as Float32Array[]) : undefined;
  const sparse = heads.includes('sparse') ? ([] as SparseWeights[]) : undefined;
  const multiVectors = hasVectors && !isHalved ? ([] as MultiVector[]) : undefined;
  const halfVectors = hasVectors && isHalved ? ([] as HalfVector[]) : undefined;
  const tokenCounts: number[] = [];
  const truncated: boolean[] = [];
  let computed = 0;
  for (let index = 0; index < tokenized.length; index++) {
    const { tokenIds, tokenCount: fullCount, isTruncated } = tokenized[index];
    tokenCounts.push(fullCount);
    truncated.push(isTruncated);
    if (empty?.areSkipped && empty.flags[index]) {
      rows?.push(NO_ROW);
      sparse?.push({ indices: new Int32Array(0), values: NO_ROW });
      multiVectors?.push({ tokenCount: 0, data: NO_ROW });
      halfVectors?.push({ tokenCount: 0, data: new Float16Array(0) });
      continue;
    }
    const outcome = job.outcomes[computed++];
    if (outcome instanceof ServerError) throw named(outcome, fieldOf(index));
    if (outcome.dense !== undefined) rows?.push(outcome.dense);
    if (outcome.sparse !== undefined) sparse?.push(joinTokenWeights(tokenIds, outcome.sparse));
    const { multi_vector: vectors, halves } = outcome;
    const tokenCount = tokenIds.length - 1;
    if (vectors) multiVectors?.push({ tokenCount, data: vectors });
    if (halves) halfVectors?.push({ tokenCount, data: halves, roomBytes: HALVES_ROOM_BYTES });
  }
  const { servedBy, queueMs, inferMs, cachedTextCount, coalescedTextCount } = job;
  // Named one by one: this is the hot path, and a spread costs more.
  return {
    rows,
    sparse,
    multiVectors,
    halfVectors,
    tokenCounts,
    truncated,
    empty: empty?.flags,
    servedBy,
    standIn,
    timings: { tokenizeMs, queueMs, inferMs, cachedTextCount, coalescedTextCount },
    giveBack: () => job.giveBack(),
  };
}

/** An error that a text is to blame for names its field. */
function named(error: ServerError, field: string): ServerError {
  if (error.blames === undefined) return error;
  const { details, cause } = error;
  return new ServerError(error.code, `${field}: ${error.message}`, { ...details, field, cause });
}

/** The empty texts of a request, and what is done with them. */
interface FoundEmpty {
  readonly flags: readonly boolean[];
  /** They have no row, and are not computed. */
  readonly areSkipped: boolean;
}

/** The row of a text that has none. */
const NO_ROW: Float32Array = new Float32Array(0);

type Prefix = EncodeRequest['inputType'];

/**
 * Texts of which nothing is left: no character, or only such as the model's normalizer takes for
 * blanks (line ends, no-break and zero-width spaces, a byte order mark, U+FFFD). To the model they
 * are one text and get one vector, which is near to those of all short texts.
 *
 * What counts as blank is the tokenizer's to say and no list of ours: a text is empty when its
 * token ids are those of the empty string or of a space, behind the same prefix.
 *
 * This is the one place that decides what becomes of them. Every API and the corpus go by it.
 * It must learn from the tokenizer first what they look like.
 */
class EmptyTexts {
  readonly #tokenizer: Parts['tokenizer'];
  readonly #prefixes: Parts['manifest']['prefixes'];
  readonly #policy: Parts['limits']['emptyTexts'];
  #known: Readonly<Record<Prefix, readonly Int32Array[]>> | undefined;

  constructor({ tokenizer, manifest, limits }: Parts) {
    this.#tokenizer = tokenizer;
    this.#prefixes = manifest.prefixes;
    this.#policy = limits.emptyTexts;
  }

  get isLearned(): boolean {
    return this.#known !== undefined;
  }

  /** @throws ServerError as the tokenizer; the next request tries again. */
  async learn(cancellation: Cancellation): Promise<void> {
    const { query, passage } = this.#prefixes;
    const texts = [query, `${query} `, passage, `${passage} `];
    const tokenized = await this.#tokenizer.tokenize(texts, cancellation);
    const ids = tokenized.map(({ tokenIds }) => tokenIds);
    this.#known = { query: ids.slice(0, 2), passage: ids.slice(2) };
  }

  /**
   * @returns undefined when no text is empty.
   * @throws ServerError EMB_TEXT_EMPTY when they are refused; it names the first one's field.
   */
  find(request: EncodeRequest, tokenized: readonly TokenizedText[]): FoundEmpty | undefined {
    const { inputType, firstInputType = inputType } = request;
    const isEmpty = ({ tokenIds }: TokenizedText, index: number): boolean => {
      const known = this.#known?.[index === 0 ? firstInputType : inputType];
      return known?.some((ids) => areEqual(ids, tokenIds)) ?? false;
    };
    const first = tokenized.findIndex(isEmpty);
    if (first < 0) return undefined;
    if (this.#policy === 'refuse') throw refusal(request.fieldOf(first));
    const flags = tokenized.map(isEmpty);
    return { flags, areSkipped: this.#policy === 'null' && request.needsEveryRow !== true };
  }
}

function refusal(field: string): ServerError {
  const message = `${field} is empty: it has no character that the model sees, and EMPTY_TEXTS is refuse.`;
  return new ServerError('EMB_TEXT_EMPTY', message, { field, limit: 1, value: 0 });
}
