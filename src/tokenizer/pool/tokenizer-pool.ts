import type { Cancellation } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import type { ServerError } from '../../base/errors.ts';
import { invariant } from '../../base/invariant.ts';
import type { Log } from '../../base/log.ts';
import type { ShownTokens } from '../xlmr/shown-tokens.ts';
import { type TokenizedText, textsOf } from './tokenized-text.ts';
import { type Call, type Errand, fail, hand } from './tokenizer-call.ts';
import { createTokenizerDesk, failure, type TokenizerDesk, unitsOf } from './tokenizer-desk.ts';
import { createCompiledEngine } from './tokenizer-engine.ts';
import type { TokenizerFacts, TokenizerGreeting, TokenizerOptions } from './tokenizer-protocol.ts';

/** Tokenizes on worker threads. */
export interface TokenizerPool {
  /**
   * Tokenizes texts, each cut to the tokens that the model takes. All requests of one turn of the
   * event loop share messages to the workers; a lone short text is tokenized here and now, since
   * that costs less than its message.
   *
   * @throws ServerError EMB_TOKENIZER_FAILED when the worker dies on the texts or none runs; or the
   * lifetime's reason.
   */
  tokenize(
    texts: readonly string[],
    lifetime: Cancellation,
    truncationSide?: 'left' | 'right',
  ): Promise<TokenizedText[]>;
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
  readonly facts: TokenizerFacts | undefined;
  readonly started: Promise<void>;
  close(): void;
}

/**
 * Workers that may die with a text before it is given up; what died first may have died of others.
 */
const DEATHS_MAX = 2;

/** How often, and how long, a text looks for a worker after one has died with it, in ms. */
const RETRY_MS = 20;
const RETRY_MS_MAX = 5000;

/**
 * UTF-16 units in one message. A longer turn is cut, shortest texts first, so that a book in a
 * burst holds up nobody's query: 64 Ki units are some two milliseconds of work.
 */
const MESSAGE_UNITS_MAX = 65_536;

/**
 * @param options.tokenCountMax ids kept of each text, special tokens included.
 * @param options.inlineUnitsMax UTF-16 units that one turn may tokenize on this thread; 0 sends
 * everything to the workers. Only a compiled tokenizer works here.
 */
export function createTokenizerPool(options: {
  workerCount: number;
  workerUrl: URL;
  greeting: TokenizerGreeting;
  tokenCountMax: number;
  inlineUnitsMax: number;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): TokenizerPool {
  const { clock, tokenCountMax, greeting } = options;
  const desks = Array.from({ length: options.workerCount }, (_, index) =>
    createTokenizerDesk({ ...options, name: `tokenizer-${index}` }),
  );
  const isInline = greeting.kind === 'compiled' && options.inlineUnitsMax > 0;
  const inline = isInline ? createCompiledEngine(greeting.tables) : undefined;
  let gathered: Call[] = [];
  /** What this turn has tokenized on this thread. */
  let inlineUnits = 0;
  let isClosed = false;

  function tokenize(
    texts: readonly string[],
    lifetime: Cancellation,
    truncationSide: 'left' | 'right' = 'right',
  ): Promise<TokenizedText[]> {
    if (inline !== undefined && takeInlineBudget(unitsOf(texts))) {
      const all = { tokenCountMax, truncationSide, specialTokens: true };
      return Promise.resolve(textsOf(inline.encode(texts, all), texts.length));
    }
    return new Promise((resolve, reject) => {
      const results = new Array<TokenizedText>(texts.length);
      const open = { openCount: texts.length, isSettled: false };
      const call: Call = { texts, truncationSide, results, ...open, resolve, reject };
      lifetime.whenEnded((reason) => fail(call, reason));
      if (gathered.push(call) === 1) clock.afterTurn(spread);
    });
  }

  /** Whether this turn may tokenize so much more on this thread, and if so takes it off. */
  function takeInlineBudget(units: number): boolean {
    if (inlineUnits + units > options.inlineUnitsMax) return false;
    if (inlineUnits === 0) {
      clock.afterTurn(() => {
        inlineUnits = 0;
      });
    }
    inlineUnits += units;
    return true;
  }

  /** Hands out what one turn has gathered. */
  function spread(): void {
    const calls = gathered;
    gathered = [];
    for (const side of ['right', 'left'] as const) {
      const errands: Errand[] = [];
      for (const call of calls) {
        if (call.isSettled || call.truncationSide !== side) continue;
        call.texts.forEach((text, index) => {
          errands.push({ call, index, text, deathCount: 0 });
        });
      }
      if (errands.length > 0) spreadErrands(errands, side);
    }
  }

  /** Shortest first, each message to the worker with the least to do. */
  function spreadErrands(errands: Errand[], truncationSide: 'left' | 'right'): void {
    const running = desks.filter((desk) => desk.facts !== undefined);
    const jobOptions = { tokenCountMax, truncationSide, specialTokens: true };
    if (running.length === 0) {
      for (const errand of errands) retry(errand, jobOptions);
      return;
    }
    errands.sort((a, b) => a.text.length - b.text.length);
    const total = errands.reduce((sum, errand) => sum + errand.text.length, 0);
    const share = Math.min(MESSAGE_UNITS_MAX, Math.ceil(total / running.length));
    for (let from = 0; from < errands.length; ) {
      let units = errands[from].text.length;
      let to = from + 1;
      while (to < errands.length && units + errands[to].text.length <= share) {
        units += errands[to++].text.length;
      }
      send(idlestOf(running), errands.slice(from, to), jobOptions);
      from = to;
    }
  }

  function send(
    desk: TokenizerDesk,
    errands: readonly Errand[],
    jobOptions: TokenizerOptions,
  ): void {
    const texts = errands.map((errand) => errand.text);
    desk.send(
      { kind: 'encode', texts, options: jobOptions },
      {
        done(reply) {
          invariant('encoded' in reply, 'a worker answers in the kind of its job');
          hand(errands, textsOf(reply.encoded, errands.length));
        },
        failed(error, isDeath) {
          for (const errand of errands) {
            const deathCount = errand.deathCount + 1;
            if (!isDeath || deathCount >= DEATHS_MAX) fail(errand.call, error);
            else retry({ ...errand, deathCount }, jobOptions);
          }
        },
        isWanted: () => errands.some(({ call }) => !call.isSettled),
      },
    );
  }

  /** Once more, alone: a text that kills takes nobody along then. */
  function retry(errand: Errand, jobOptions: TokenizerOptions, waitedMs = 0): void {
    if (errand.call.isSettled) return;
    const running = desks.filter((desk) => desk.facts !== undefined);
    if (running.length > 0) send(idlestOf(running), [errand], jobOptions);
    else if (isClosed || waitedMs >= RETRY_MS_MAX) fail(errand.call, noWorker());
    else clock.schedule(RETRY_MS, () => retry(errand, jobOptions, waitedMs + RETRY_MS));
  }

  function explain(
    texts: readonly string[],
    lifetime: Cancellation,
    most: { readonly tokenCountMax: number; readonly specialTokens: boolean },
  ): Promise<ShownTokens> {
    const running = desks.filter((desk) => desk.facts !== undefined);
    if (running.length === 0) return Promise.reject(noWorker());
    return new Promise((resolve, reject) => {
      lifetime.whenEnded(reject);
      idlestOf(running).send(
        { kind: 'explain', texts, options: { ...most, truncationSide: 'right' } },
        {
          done(reply) {
            invariant('explained' in reply, 'a worker answers in the kind of its job');
            resolve(reply.explained);
          },
          failed: reject,
          isWanted: () => lifetime.ended === undefined,
        },
      );
    });
  }

  const noWorker = (): ServerError => failure('No tokenizer is running.', desks[0].reason);

  return {
    tokenize,
    explain,
    get reason() {
      return desks.some((desk) => desk.facts !== undefined) ? '' : desks[0].reason;
    },
    get facts() {
      return desks.find((desk) => desk.facts !== undefined)?.facts;
    },
    started: Promise.all(desks.map((desk) => desk.started)).then(() => undefined),
    close() {
      isClosed = true;
      for (const desk of desks) desk.close();
    },
  };
}

function idlestOf(desks: readonly TokenizerDesk[]): TokenizerDesk {
  return desks.reduce((best, desk) => (desk.load < best.load ? desk : best));
}
