import type { Cancellation, Clock } from '../../base/clock.ts';
import { invariant, type ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { readCompiledTokenizer } from '../xlmr/compiled-format.ts';
import {
  type CompiledTokenizer,
  createCompiledTokenizer,
  type EncodedTexts,
  type EncodeOptions,
} from '../xlmr/compiled-tokenizer.ts';
import type { ShownTokens } from '../xlmr/shown-tokens.ts';
import { createTokenIds } from '../xlmr/unigram-search.ts';
import type { TokenizerInit, TokenizerReady } from './tokenizer-protocol.ts';
import { createWorkerQueue, failure, unitsOf, type WorkerQueue } from './worker-queue.ts';

/** One text after tokenization. */
export interface TokenizedText {
  /** Kept ids, special tokens included; a view that its holder may keep. */
  readonly tokenIds: Int32Array;
  /** Ids without truncation. */
  readonly tokenCount: number;
  readonly isTruncated: boolean;
}

/** Tokenizes on worker threads, and on this one what costs less here than its message. */
export interface TokenizerPool {
  /**
   * Tokenizes texts, each cut to the tokens that the model takes: here and now what one turn of the
   * event loop may (`inlineUnitsMax`), and nothing is waited for then. The other requests of a turn
   * share messages to the workers.
   *
   * @throws ServerError EMB_TOKENIZER_FAILED when two workers die on a text or none runs; or the
   * lifetime's reason.
   */
  tokenize(
    texts: readonly string[],
    lifetime: Cancellation,
    truncationSide?: 'left' | 'right',
  ): TokenizedText[] | Promise<TokenizedText[]>;
  /**
   * Tokenizes whole texts with offsets, for people to look at, unless they have more tokens than
   * `tokenCountMax` together. Throws as `tokenize`.
   */
  explain(
    texts: readonly string[],
    lifetime: Cancellation,
    options: { readonly tokenCountMax: number; readonly specialTokens: boolean },
  ): Promise<ShownTokens>;
  /** Empty when a worker runs, otherwise why none does. */
  readonly reason: string;
  /** What the running workers say of themselves; undefined when none runs. */
  readonly ready: TokenizerReady | undefined;
  readonly started: Promise<void>;
  close(): void;
}

/**
 * Workers that may die with a text before it is refused. The first death may be another text's
 * fault.
 */
const DEATHS_MAX = 2;

/** A text whose worker died looks for another: every so many ms, and for so long. */
const RETRY_MS = 20;
const RETRY_MS_MAX = 5000;

/**
 * UTF-16 units in one message, some two milliseconds of work. A turn with more is cut, shortest
 * texts first, so that a book in a burst delays no query.
 */
const MESSAGE_UNITS_MAX = 65_536;

/**
 * What a text in a message costs this thread, in UTF-16 units that it could tokenize meanwhile:
 * some 1.2 µs for the copy, its place among the others and its answer, at 15 to 20 ns a unit. So
 * short texts are not worth a message, however many a request has.
 */
const MESSAGE_UNITS_PER_TEXT = 64;

/**
 * @param options.tokenCountMax token ids kept of each text, special tokens included.
 * @param options.inlineUnitsMax UTF-16 units that one turn may tokenize on this thread beyond
 * `MESSAGE_UNITS_PER_TEXT` for each text; 0 sends everything to the workers. Only a compiled
 * tokenizer runs on this thread.
 */
export function createTokenizerPool(options: {
  workerCount: number;
  workerUrl: URL;
  init: TokenizerInit;
  tokenCountMax: number;
  inlineUnitsMax: number;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): TokenizerPool {
  const { clock, tokenCountMax, init } = options;
  const queues = Array.from({ length: options.workerCount }, (_, index) =>
    createWorkerQueue({ ...options, name: `tokenizer-${index}` }),
  );
  const isInline = init.kind === 'compiled' && options.inlineUnitsMax > 0;
  const inline = isInline
    ? createInlineTokenizer(
        createCompiledTokenizer(readCompiledTokenizer(init.tables, { verifiesChecksum: false })),
        tokenCountMax,
      )
    : undefined;
  /** The requests of this turn of the event loop. */
  let gathered: PendingRequest[] = [];
  /** Units that this turn has tokenized on this thread, and those that messages cost as much as. */
  const turn = { units: 0, sparedUnits: 0 };
  let isClosed = false;

  function tokenize(
    texts: readonly string[],
    lifetime: Cancellation,
    truncationSide: 'left' | 'right' = 'right',
  ): TokenizedText[] | Promise<TokenizedText[]> {
    if (inline !== undefined && takeInlineBudget(texts)) {
      return inline(texts, truncationSide);
    }
    return new Promise((resolve, reject) => {
      const results = new Array<TokenizedText>(texts.length);
      const state = { openCount: texts.length, isSettled: false };
      const request = { texts, truncationSide, results, ...state, resolve, reject };
      lifetime.whenEnded((reason) => rejectRequest(request, reason));
      if (gathered.push(request) === 1) clock.afterTurn(dispatch);
    });
  }

  /**
   * Whether this turn may tokenize these texts, too, on this thread; if so, they are counted. All
   * that it tokenizes is bounded by what a message may have.
   */
  function takeInlineBudget(texts: readonly string[]): boolean {
    const requestUnits = unitsOf(texts);
    const units = turn.units + requestUnits;
    const sparedUnits =
      turn.sparedUnits + Math.min(requestUnits, MESSAGE_UNITS_PER_TEXT * texts.length);
    if (units - sparedUnits > options.inlineUnitsMax || units > MESSAGE_UNITS_MAX) return false;
    if (turn.units === 0) clock.afterTurn(endTurn);
    turn.units = units;
    turn.sparedUnits = sparedUnits;
    return true;
  }

  function endTurn(): void {
    turn.units = 0;
    turn.sparedUnits = 0;
  }

  /** Sends what one turn has gathered to the workers. */
  function dispatch(): void {
    const requests = gathered;
    gathered = [];
    for (const side of ['right', 'left'] as const) {
      const items: TextItem[] = [];
      for (const request of requests) {
        if (request.isSettled || request.truncationSide !== side) continue;
        request.texts.forEach((text, index) => {
          items.push({ request, index, text, deathCount: 0 });
        });
      }
      if (items.length > 0) dispatchItems(items, side);
    }
  }

  /** Shortest texts first, each message to the worker with the least load. */
  function dispatchItems(items: TextItem[], truncationSide: 'left' | 'right'): void {
    const running = runningQueues();
    const textOptions = { tokenCountMax, truncationSide, specialTokens: true };
    if (running.length === 0) {
      for (const item of items) retry(item, textOptions);
      return;
    }
    items.sort((a, b) => a.text.length - b.text.length);
    const total = items.reduce((sum, item) => sum + item.text.length, 0);
    const share = Math.min(MESSAGE_UNITS_MAX, Math.ceil(total / running.length));
    for (let from = 0; from < items.length; ) {
      let units = items[from].text.length;
      let to = from + 1;
      while (to < items.length && units + items[to].text.length <= share) {
        units += items[to++].text.length;
      }
      send(leastLoaded(running), items.slice(from, to), textOptions);
      from = to;
    }
  }

  function send(queue: WorkerQueue, items: readonly TextItem[], textOptions: EncodeOptions): void {
    const texts = items.map((item) => item.text);
    queue.send(
      { kind: 'encode', texts, options: textOptions },
      {
        done(response) {
          invariant('encoded' in response, 'a worker answers in the kind of its request');
          resolveItems(items, textsOf(response.encoded, items.length));
        },
        failed(error, death) {
          for (const item of items) {
            const deathCount = item.deathCount + (death === 'in work' ? 1 : 0);
            const isRefused = death === undefined || deathCount >= DEATHS_MAX;
            if (isRefused) rejectRequest(item.request, error);
            else retry({ ...item, deathCount }, textOptions);
          }
        },
        isWanted: () => items.some(({ request }) => !request.isSettled),
      },
    );
  }

  /** Sends a text once more, alone: if it kills the worker again, no other text dies with it. */
  function retry(item: TextItem, textOptions: EncodeOptions, waitedMs = 0): void {
    if (item.request.isSettled) return;
    const running = runningQueues();
    if (running.length > 0) send(leastLoaded(running), [item], textOptions);
    else if (isClosed || waitedMs >= RETRY_MS_MAX) rejectRequest(item.request, noWorker());
    else clock.schedule(RETRY_MS, () => retry(item, textOptions, waitedMs + RETRY_MS));
  }

  function explain(
    texts: readonly string[],
    lifetime: Cancellation,
    limits: { readonly tokenCountMax: number; readonly specialTokens: boolean },
  ): Promise<ShownTokens> {
    const running = runningQueues();
    if (running.length === 0) return Promise.reject(noWorker());
    return new Promise((resolve, reject) => {
      lifetime.whenEnded(reject);
      leastLoaded(running).send(
        { kind: 'explain', texts, options: { ...limits, truncationSide: 'right' } },
        {
          done(response) {
            invariant('explained' in response, 'a worker answers in the kind of its request');
            resolve(response.explained);
          },
          failed: reject,
          isWanted: () => lifetime.ended === undefined,
        },
      );
    });
  }

  const runningQueues = (): WorkerQueue[] => queues.filter(({ ready }) => ready !== undefined);
  const noWorker = (): ServerError => failure('No tokenizer is running.', queues[0].reason);

  return {
    tokenize,
    explain,
    get reason() {
      return queues.some(({ ready }) => ready !== undefined) ? '' : queues[0].reason;
    },
    get ready() {
      return queues.find(({ ready }) => ready !== undefined)?.ready;
    },
    started: Promise.all(queues.map((queue) => queue.started)).then(() => undefined),
    close() {
      isClosed = true;
      for (const queue of queues) queue.close();
    },
  };
}

function leastLoaded(queues: readonly WorkerQueue[]): WorkerQueue {
  return queues.reduce((best, queue) => (queue.load < best.load ? queue : best));
}

/** The texts of one `tokenize`, until all of them have their token ids. */
interface PendingRequest {
  readonly texts: readonly string[];
  readonly truncationSide: 'left' | 'right';
  readonly results: TokenizedText[];
  openCount: number;
  isSettled: boolean;
  resolve(results: TokenizedText[]): void;
  reject(reason: ServerError): void;
}

/** One text of a pending request, on its way through a worker. */
interface TextItem {
  readonly request: PendingRequest;
  readonly index: number;
  readonly text: string;
  /** How many workers have died with it. */
  readonly deathCount: number;
}

/** Gives each request its texts. The last text resolves the request. */
function resolveItems(items: readonly TextItem[], texts: readonly TokenizedText[]): void {
  for (let at = 0; at < items.length; at++) {
    const { request, index } = items[at];
    request.results[index] = texts[at];
    if (--request.openCount > 0 || request.isSettled) continue;
    request.isSettled = true;
    request.resolve(request.results);
  }
}

/** Rejects a request, unless it is settled. */
function rejectRequest(request: PendingRequest, reason: ServerError): void {
  if (request.isSettled) return;
  request.isSettled = true;
  request.reject(reason);
}

/**
 * Tokenizes on this thread. Each text has ids of its own: a view of shared ones costs four times
 * as much as a short copy.
 */
function createInlineTokenizer(tokenizer: CompiledTokenizer, tokenCountMax: number) {
  const out = createTokenIds();
  const optionsOf = (truncationSide: 'left' | 'right') =>
    ({ tokenCountMax, truncationSide, specialTokens: true, out }) as const;
  const sides = { left: optionsOf('left'), right: optionsOf('right') };
  return (texts: readonly string[], side: 'left' | 'right'): TokenizedText[] => {
    const tokenized = new Array<TokenizedText>(texts.length);
    for (let index = 0; index < texts.length; index++) {
      out.length = 0;
      const { keptCount, fullCount: tokenCount } = tokenizer.encode(texts[index], sides[side]);
      const tokenIds = out.ids.slice(0, keptCount);
      tokenized[index] = { tokenIds, tokenCount, isTruncated: tokenCount > keptCount };
    }
    return tokenized;
  };
}

/** Cuts a tokenizer's answer into texts, which are views of the same ids. */
function textsOf(encoded: EncodedTexts, textCount: number): TokenizedText[] {
  const { tokenIds, keptCounts, fullCounts } = encoded;
  const isWhole = keptCounts.length === textCount && fullCounts.length === textCount;
  invariant(isWhole, 'a tokenizer answers each text');
  const texts = new Array<TokenizedText>(textCount);
  let offset = 0;
  for (let index = 0; index < textCount; index++) {
    const kept = keptCounts[index];
    const tokenCount = fullCounts[index];
    const end = offset + kept;
    invariant(kept > 0 && end <= tokenIds.length, 'token counts match the ids sent');
    const isTruncated = tokenCount > kept;
    texts[index] = { tokenIds: tokenIds.subarray(offset, end), tokenCount, isTruncated };
    offset = end;
  }
  return texts;
}
