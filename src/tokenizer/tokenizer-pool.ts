import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';
import { invariant } from '../base/invariant.ts';
import type { Lifetime } from '../base/lifetime.ts';
import type { Log } from '../base/log.ts';
import { createWorkerHost, type WorkerHost } from '../base/worker-host.ts';
import type {
  EncodedTexts,
  TokenizerFacts,
  TokenizerGreeting,
  TokenizerJob,
  TokenizerReply,
} from './tokenizer-protocol.ts';

/** One text after tokenization. */
export interface TokenizedText {
  /** Kept ids, special tokens included; a view that its holder may keep. */
  readonly ids: Int32Array;
  /** Ids without truncation. */
  readonly tokenCount: number;
  readonly isTruncated: boolean;
}

/** Tokenizes on worker threads. */
export interface TokenizerPool {
  /**
   * Tokenizes texts, each cut at its end to `tokenCountMax` ids. All requests of one turn of the event loop share one
   * message to each worker.
   *
   * @throws ServerError EMB_TOKENIZER_FAILED when the worker dies on the texts or none runs; or the lifetime's reason.
   */
  tokenize(texts: readonly string[], lifetime: Lifetime): Promise<TokenizedText[]>;
  /** Empty when a worker runs, otherwise why none does. */
  readonly reason: string;
  readonly facts: TokenizerFacts | undefined;
  readonly started: Promise<void>;
  close(): void;
}

interface Call {
  readonly texts: readonly string[];
  readonly results: TokenizedText[];
  readonly lifetime: Lifetime;
  openCount: number;
  isSettled: boolean;
  resolve(results: TokenizedText[]): void;
  reject(reason: ServerError): void;
}

/** A text on its way through a worker. */
interface Errand {
  readonly call: Call;
  readonly index: number;
}

interface Desk {
  readonly host: WorkerHost<TokenizerJob, TokenizerFacts>;
  readonly jobs: Map<number, readonly Errand[]>;
  /** UTF-16 units sent and not yet answered. */
  load: number;
}

/**
 * UTF-16 units in one message. A longer turn is cut, shortest texts first, so that a book in a burst holds up nobody's
 * query: 64 Ki units are some milliseconds of work.
 */
const MESSAGE_UNITS_MAX = 65_536;

export function createTokenizerPool(options: {
  workerCount: number;
  workerUrl: URL;
  greeting: TokenizerGreeting;
  tokenCountMax: number;
  startMsMax: number;
  restartsMax: number;
  clock: Clock;
  log: Log;
}): TokenizerPool {
  const { clock, tokenCountMax } = options;
  const desks: Desk[] = [];
  let gathered: Call[] = [];
  let nextJobId = 1;

  for (let index = 0; index < options.workerCount; index++) {
    const jobs = new Map<number, readonly Errand[]>();
    const host = createWorkerHost<TokenizerGreeting, TokenizerJob, TokenizerReply, TokenizerFacts>({
      ...options,
      name: `tokenizer-${index}`,
      url: options.workerUrl,
      onReply: (reply) => onReply(desks[index], reply),
      onDeath: (why) => onDeath(desks[index], why),
    });
    desks.push({ host, jobs, load: 0 });
  }

  function tokenize(texts: readonly string[], lifetime: Lifetime): Promise<TokenizedText[]> {
    return new Promise((resolve, reject) => {
      const results = new Array<TokenizedText>(texts.length);
      const openCount = texts.length;
      const call: Call = { texts, results, lifetime, openCount, isSettled: false, resolve, reject };
      lifetime.whenEnded((reason) => fail(call, reason));
      if (gathered.push(call) === 1) clock.afterTurn(spread);
    });
  }

  /** Hands out what one turn has gathered: shortest first, each message to the worker with the least to do. */
  function spread(): void {
    const errands: Errand[] = [];
    for (const call of gathered) {
      if (call.isSettled) continue;
      for (let index = 0; index < call.texts.length; index++) errands.push({ call, index });
    }
    gathered = [];
    const running = desks.filter((desk) => desk.host.facts !== undefined);
    if (running.length === 0) {
      refuse(errands);
      return;
    }
    errands.sort((a, b) => lengthOf(a) - lengthOf(b));
    const total = errands.reduce((sum, errand) => sum + lengthOf(errand), 0);
    const share = Math.min(MESSAGE_UNITS_MAX, Math.ceil(total / running.length));
    for (let from = 0; from < errands.length; ) {
      let units = 0;
      let to = from;
      while (to < errands.length && (to === from || units + lengthOf(errands[to]) <= share)) {
        units += lengthOf(errands[to++]);
      }
      const idlest = running.reduce((best, desk) => (desk.load < best.load ? desk : best));
      send(idlest, errands.slice(from, to), units);
      from = to;
    }
  }

  function send(desk: Desk, errands: readonly Errand[], units: number): void {
    const jobId = nextJobId++;
    desk.jobs.set(jobId, errands);
    desk.load += units;
    const texts = errands.map((errand) => errand.call.texts[errand.index]);
    desk.host.send({ jobId, texts, tokenCountMax });
  }

  function onReply(desk: Desk, reply: TokenizerReply): void {
    const errands = desk.jobs.get(reply.jobId);
    invariant(errands !== undefined, 'a tokenizer worker answers jobs it was given, once');
    desk.jobs.delete(reply.jobId);
    desk.load -= errands.reduce((sum, errand) => sum + lengthOf(errand), 0);
    if ('reason' in reply) {
      const error = failure('The tokenizer failed on these texts.', reply.reason);
      for (const errand of errands) fail(errand.call, error);
      return;
    }
    hand(errands, reply.encoded);
  }

  function hand(errands: readonly Errand[], encoded: EncodedTexts): void {
    const { ids, keptCounts, fullCounts } = encoded;
    invariant(
      keptCounts.length === errands.length && fullCounts.length === errands.length,
      'a tokenizer worker answers each text',
    );
    let offset = 0;
    for (let at = 0; at < errands.length; at++) {
      const { call, index } = errands[at];
      const end = offset + keptCounts[at];
      invariant(keptCounts[at] > 0 && end <= ids.length, 'token counts match the ids sent');
      call.results[index] = {
        ids: ids.subarray(offset, end),
        tokenCount: fullCounts[at],
        isTruncated: fullCounts[at] > keptCounts[at],
      };
      offset = end;
      if (--call.openCount === 0 && !call.isSettled) {
        call.isSettled = true;
        call.resolve(call.results);
      }
    }
  }

  function onDeath(desk: Desk, why: string): void {
    const error = failure('The tokenizer died on these texts; it is being replaced.', why);
    for (const errands of desk.jobs.values()) {
      for (const errand of errands) fail(errand.call, error);
    }
    desk.jobs.clear();
    desk.load = 0;
  }

  function refuse(errands: readonly Errand[]): void {
    const error = failure('No tokenizer is running.', desks[0].host.reason);
    for (const errand of errands) fail(errand.call, error);
  }

  return {
    tokenize,
    get reason() {
      const isUp = desks.some((desk) => desk.host.facts !== undefined);
      return isUp ? '' : desks[0].host.reason;
    },
    get facts() {
      return desks.find((desk) => desk.host.facts !== undefined)?.host.facts;
    },
    started: Promise.all(desks.map((desk) => desk.host.started)).then(() => undefined),
    close() {
      for (const desk of desks) desk.host.close();
      for (const desk of desks) onDeath(desk, 'The pool was closed.');
    },
  };
}

function lengthOf(errand: Errand): number {
  return errand.call.texts[errand.index].length;
}

function fail(call: Call, reason: ServerError): void {
  if (call.isSettled) return;
  call.isSettled = true;
  call.reject(reason);
}

function failure(message: string, why: string): ServerError {
  return new ServerError('EMB_TOKENIZER_FAILED', message, { cause: new Error(why) });
}
