import type { BackendLimits } from '../backend/contract.ts';
import { ServerError } from '../base/errors.ts';
import type { BatchTraces, RequestTrace } from '../observe/tracing.ts';
import { HALVES_ROOM_BYTES, type TextOutput } from '../vectors/output.ts';
import { capacityOf, textCostOf } from './plan.ts';
import type { BatchQueue, QueuedRequest, QueuedText } from './queue.ts';

/** What one text got, or why it got nothing. */
export type TextOutcome = TextOutput | ServerError;

/** What became of a job. */
export interface JobResult {
  /** One for each text, in order. */
  readonly outcomes: readonly TextOutcome[];
  /** The longest wait of any of its texts, and the longest batch that one rode in. */
  readonly queueMs: number;
  readonly inferMs: number;
  /** Who ran its last batch: an endpoint's address, `embedded`. */
  readonly servedBy: string | undefined;
  /** Nobody reads the outcomes any more: their memory is used again. */
  giveBack(): void;
  /** Texts whose rows were known; undefined where none are kept. */
  readonly cachedTextCount: number | undefined;
  /** Texts that went along with an equal one. */
  readonly coalescedTextCount: number;
}

/**
 * A request whose texts are queued or run. It is settled once: by its last text, or when its
 * caller stops waiting.
 */
export class PendingRequest implements QueuedRequest, JobResult {
  readonly batchTextsMax: number;
  /** Its texts wait for those of all others. */
  readonly isBackground: boolean;
  readonly caller: string | undefined;
  readonly trace: RequestTrace | undefined;
  readonly outcomes: TextOutcome[];
  /** Those that are or were queued, run, or go along with others. */
  readonly texts: PendingText[] = [];
  readonly #resolve: (result: JobResult) => void;
  readonly #reject: (reason: ServerError) => void;
  readonly #rows: RequestRows;
  #openCount: number;
  waitingCount = 0;
  /** Its caller sends more than others wait for; `CallerQueue` says, and counts what waits. */
  isBulk = false;
  readonly queued = { textCount: 0, tokenCount: 0 };
  isSettled = false;
  queueMs = 0;
  inferMs = 0;
  servedBy: string | undefined;
  cachedTextCount: number | undefined;
  coalescedTextCount = 0;

  constructor(
    options: {
      textCount: number;
      batchTextsMax: number;
      isBackground?: boolean | undefined;
      caller?: string | undefined;
      trace?: RequestTrace | undefined;
    },
    resolve: (result: JobResult) => void,
    reject: (reason: ServerError) => void,
  ) {
    this.batchTextsMax = options.batchTextsMax;
    this.isBackground = options.isBackground ?? false;
    this.caller = options.caller;
    this.trace = options.trace;
    this.outcomes = new Array(options.textCount);
    this.#openCount = options.textCount;
    this.#rows = new RequestRows(options.textCount);
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /**
   * Takes what the text at `index` got; the last one settles the request.
   *
   * @param outcome borrowed: what is kept of an output is a copy, but for halves that it may have.
   */
  put(index: number, outcome: TextOutcome, servedBy?: string, getsHalves = false): void {
    if (this.isSettled) return;
    const isOutput = !(outcome instanceof ServerError);
    this.outcomes[index] = isOutput ? this.#rows.put(index, outcome, getsHalves) : outcome;
    this.servedBy = servedBy ?? this.servedBy;
    this.#openCount--;
    if (this.#openCount > 0) return;
    this.isSettled = true;
    this.#resolve(this);
  }

  giveBack(): void {
    this.#rows.giveBack();
  }

  /** The rows of the text at `index` were known. */
  putKnown(index: number, output: TextOutput): void {
    this.cachedTextCount = (this.cachedTextCount ?? 0) + 1;
    this.put(index, output);
  }

  /** A text of it was computed (`getsHalves`), or an equal one that it went along with. */
  putComputed(
    { index, arrivedMs }: Pick<PendingText, 'index' | 'arrivedMs'>,
    outcome: TextOutcome,
    by: { servedBy: string | undefined; sentMs: number; nowMs: number; getsHalves: boolean },
  ): void {
    this.queueMs = Math.max(this.queueMs, by.sentMs - arrivedMs);
    this.inferMs = Math.max(this.inferMs, by.nowMs - Math.max(by.sentMs, arrivedMs));
    this.put(index, outcome, by.servedBy, by.getsHalves);
  }

  /** Nobody waits any more. @returns whether somebody did until now. */
  abandon(reason: ServerError): boolean {
    if (this.isSettled) return false;
    this.isSettled = true;
    this.#reject(reason);
    return true;
  }
}

/**
 * The numbers of one request, from the return of their batch until they stand in the reply.
 *
 * What a batch gave is lent: the next batch may be written over it. So each text's numbers are
 * copied once, to memory of its request's own, which another request gets when the reply is
 * written. Fresh memory for each would cost more than the copy: the kernel clears it page by page,
 * a row of 1,024 values is a page, and a page takes it a µs.
 */
export class RequestRows {
  readonly #textCount: number;
  /** All dense rows, one after the other, so that a reply can copy them as one block. */
  #dense: Float32Array<ArrayBuffer> | undefined;
  #others: Float32Array<ArrayBuffer>[] = [];

  constructor(textCount: number) {
    this.#textCount = textCount;
  }

  /**
   * Copies what the text at `index` got.
   *
   * @param output borrowed. All dense rows of a request have one length.
   * @param getsHalves its halves are of `takeHalves`, and this request's from now on.
   * @returns views, valid until `giveBack`. Halves have room in front (`HALVES_ROOM_BYTES`).
   */
  put(index: number, output: TextOutput, getsHalves = false): TextOutput {
    const { dense, sparse, multi_vector: multiVector, halves } = output;
    // The usual case, written out: this is done for each text.
    if (dense !== undefined && (sparse ?? multiVector ?? halves) === undefined) {
      const place = this.#placeOf(index, dense.length);
      place.set(dense);
      return { dense: place };
    }
    const copy: { -readonly [Key in keyof TextOutput]: TextOutput[Key] } = {};
    if (dense !== undefined) {
      const place = this.#placeOf(index, dense.length);
      place.set(dense);
      copy.dense = place;
    }
    if (sparse !== undefined) copy.sparse = this.#copyOf(sparse);
    if (halves !== undefined) copy.halves = this.#halvesFrom(halves, getsHalves);
    else if (multiVector !== undefined) copy.multi_vector = this.#copyOf(multiVector);
    return copy;
  }

  /** Nobody reads any of the numbers again. */
  giveBack(): void {
    if (this.#dense !== undefined) keep(this.#dense);
    for (const block of this.#others) keep(block);
    this.#dense = undefined;
    this.#others = [];
  }

  #placeOf(index: number, length: number): Float32Array {
    this.#dense ??= take(this.#textCount * length);
    // Of a single text most often the block itself: a view costs a tenth of a µs.
    if (this.#dense.length === length) return this.#dense;
    return this.#dense.subarray(index * length, (index + 1) * length);
  }

  #copyOf(values: Float32Array): Float32Array {
    const block = take(values.length);
    this.#others.push(block);
    block.set(values);
    return block.subarray(0, values.length);
  }

  #halvesFrom(values: Float16Array, getsHalves: boolean): Float16Array {
    const halves = getsHalves ? values : takeHalves(values.length);
    if (!getsHalves) halves.set(values);
    this.#others.push(new Float32Array(halves.buffer as ArrayBuffer));
    return halves;
  }
}

/**
 * Memory for so many halves of one text, with room in front. The output guard writes a megabyte to
 * where a reply is made around it, so that it is not copied again for either. The request that gets
 * the text gets the memory; where none does, it is collected.
 */
export function takeHalves(count: number): Float16Array<ArrayBuffer> {
  const { buffer } = take((HALVES_ROOM_BYTES + 2 * count) / 4);
  return new Float16Array(buffer, HALVES_ROOM_BYTES, count);
}

/** Memory up to this size is kept for the requests to come: 4,000 rows of 1,024 values. */
const KEPT_BYTES_MAX = 1 << 24;

/** Blocks of numbers that nobody uses, by their length: see `lengthFor`. */
const kept = new Map<number, Float32Array<ArrayBuffer>[]>();
let keptBytes = 0;

function take(count: number): Float32Array<ArrayBuffer> {
  const length = lengthFor(count);
  const block = kept.get(length)?.pop();
  if (block === undefined) return new Float32Array(length);
  keptBytes -= block.byteLength;
  return block;
}

/** At least `count`: a power of two, or one and a quarter, a half or three quarters of one. */
function lengthFor(count: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, count))) - 2);
  return Math.ceil(Math.max(1, count) / step) * step;
}

function keep(block: Float32Array<ArrayBuffer>): void {
  if (keptBytes + block.byteLength > KEPT_BYTES_MAX) return;
  keptBytes += block.byteLength;
  const others = kept.get(block.length);
  if (others === undefined) kept.set(block.length, [block]);
  else others.push(block);
}

/** From this size on telling one caller takes a good part of a ms: 64 rows of 1,024 values. */
const LARGE_BYTES = 1 << 18;

/** Whether a text got so much that others should have a turn before the next one. */
export function isLarge({ multi_vector: vectors, halves }: TextOutput): boolean {
  const bytes = halves?.byteLength ?? vectors?.byteLength ?? 0;
  return bytes >= LARGE_BYTES;
}

/** `sentMs` of a text that waits. */
export const NOT_SENT = -1;

/** A text on its way through the batcher. */
export interface PendingText extends QueuedText {
  /** Whose it is; while it runs it may become another's, who waits for an equal one. */
  request: PendingRequest;
  /** Place of the text in its request. */
  index: number;
  readonly ids: Int32Array;
  arrivedMs: number;
  /** When its batch left; `NOT_SENT` until then. */
  sentMs: number;
  /** Of its ids and heads; 0 for a text that goes along with none. */
  readonly key: number;
  /** Equal texts that get what this one gets; undefined for none. */
  along: Set<PendingText> | undefined;
  /** The equal text that this one goes along with. */
  first: PendingText | undefined;
  /** The next of the texts in flight whose keys have one place in their table. */
  sharesPlace: PendingText | undefined;
  /** Of the batch that it runs in, where a request of it is traced. */
  traces: BatchTraces | undefined;
}

/** What became of a batch, for the log and the metrics. */
export interface BatchReport {
  readonly textCount: number;
  /** Tokens that were computed, padding included. */
  readonly computedTokenCount: number;
  /** Tokens that were not padding. */
  readonly tokenCount: number;
  readonly inferMs: number;
  /** Wait of the text that waited longest. */
  readonly queueMsMax: number;
  /** Why its first call failed. */
  readonly error: ServerError | undefined;
  /** Further calls that were spent on saving its texts. */
  readonly rescueCallCount: number;
}

/** Adds up what the texts of a batch were like. */
export function reportOf(
  texts: readonly Pick<PendingText, 'ids' | 'paddedLength' | 'arrivedMs' | 'sentMs'>[],
  run: Pick<BatchReport, 'inferMs' | 'error' | 'rescueCallCount'> & { isOneByOne: boolean },
): BatchReport {
  const { isOneByOne, inferMs, error, rescueCallCount } = run;
  let paddedLength = 0;
  let tokenCount = 0;
  let queueMsMax = 0;
  for (const { ids, paddedLength: shared, arrivedMs, sentMs } of texts) {
    paddedLength = Math.max(paddedLength, shared);
    tokenCount += ids.length;
    queueMsMax = Math.max(queueMsMax, sentMs - arrivedMs);
  }
  const textCount = texts.length;
  const computedTokenCount = isOneByOne ? tokenCount : textCount * paddedLength;
  return {
    textCount,
    computedTokenCount,
    tokenCount,
    inferMs,
    queueMsMax,
    error,
    rescueCallCount,
  };
}

/**
 * Backfilling: adds texts of another queue to a batch, after its own, as far as it has room.
 *
 * @param options.part of the batch's cost that they may add to it.
 */
export function backfill(
  texts: PendingText[],
  from: BatchQueue<PendingText>,
  { limits, part }: { limits: BackendLimits; part: number },
): void {
  const first = texts[0];
  if (first === undefined || first.isAlone || limits.isOneByOne) return;
  const { heads } = first;
  let paddedLength = 0;
  for (const text of texts) paddedLength = Math.max(paddedLength, text.paddedLength);
  const cost = limits.launchTokens + costOf(texts, limits);
  const textCount = Math.min(
    capacityOf({ paddedLength, heads }, { ...limits, isCrowd: false }) - texts.length,
    Math.floor((part * cost) / textCostOf(paddedLength, limits)),
  );
  if (textCount > 0) texts.push(...from.drawBackfill({ paddedLength, heads, textCount }));
}

/** What a batch has cost, in tokens of a short text. */
export function costOf(texts: readonly PendingText[], limits: BackendLimits): number {
  let sum = 0;
  let longest = 0;
  for (const { ids, paddedLength } of texts) {
    sum += textCostOf(ids.length, limits);
    longest = Math.max(longest, paddedLength);
  }
  return limits.isOneByOne ? sum : texts.length * textCostOf(longest, limits);
}

/** The part of a batch's cost that is of the background, whose texts are its last. */
export function backgroundCostOf(texts: readonly PendingText[], cost: number): number {
  if (texts[0].request.isBackground) return cost;
  let count = 0;
  while (texts[texts.length - 1 - count].request.isBackground) count++;
  return (cost * count) / texts.length;
}

/** Tokens of the background texts of a batch. */
export function backgroundTokensOf(texts: readonly PendingText[]): number {
  let tokenCount = 0;
  for (let at = texts.length; at-- > 0 && texts[at].request.isBackground; ) {
    tokenCount += texts[at].ids.length;
  }
  return tokenCount;
}
