import { APIEncoderError } from './api-encoder-error.ts';
import { whenAborted } from './cancellation.ts';

/** One server of those that a client spreads its requests over. */
export interface SpreadServer {
  readonly baseUrl: string;
}

/** What the spread holds of a server. */
interface Held extends SpreadServer {
  /** Characters of the requests that it has not answered. */
  work: number;
  /** Until when others are asked first. */
  restUntilMs: number;
  /** Which model it said that it serves; undefined: to be asked. */
  identity: string | undefined;
  identityUntilMs: number;
}

/** How a request asks servers what they serve. */
export interface InfoQuestion {
  /** Asks for `/info`. @throws APIEncoderError when it does not answer, or the signal's reason. */
  readonly ask: (server: SpreadServer) => Promise<Uint8Array>;
  /** Ends the request, and what it asks. */
  readonly signal: AbortSignal;
}

/**
 * How long a server is taken for what it said, in ms. One that was replaced breaks its connections
 * and is asked again at once; this is for one that nobody called meanwhile.
 */
const IDENTITY_MS = 30_000;

/**
 * Spreads requests over servers of one model: each goes to the server with the least work
 * outstanding, and none to one that has just refused, while there is another.
 *
 * Before a server gets a text it has said which model it serves. Servers that do not agree when the
 * client begins are an error of whoever set them up; one that differs later is left out. With one
 * server nothing is asked and nothing rests: there is no choice.
 */
export class ServerSpread {
  readonly #servers: readonly Held[];
  readonly #now: () => number;
  /** What all must say; known once the first have been asked. */
  #identity: string | undefined;
  /** One request asks for all of them. */
  #asking: { readonly by: AbortSignal; readonly answered: Promise<void> } | undefined;

  constructor(baseUrls: readonly string[], now: () => number) {
    this.#now = now;
    this.#servers = baseUrls.map((baseUrl) => ({
      ...{ baseUrl, work: 0, restUntilMs: 0, identity: undefined, identityUntilMs: 0 },
    }));
  }

  /**
   * Runs a request at the server that has least to do.
   *
   * @param work how much it is, in characters.
   * @param restMs how long a server is left alone after an error; undefined: not at all.
   */
  async run<Result>(
    options: {
      work: number;
      restMs: (error: unknown) => number | undefined;
      question: InfoQuestion;
    },
    send: (server: SpreadServer) => Promise<Result>,
  ): Promise<Result> {
    const [only] = this.#servers;
    if (only !== undefined && this.#servers.length === 1) return await send(only);
    await this.#agree(options.question);
    const server = this.#pick();
    server.work += options.work;
    try {
      await this.#confirm(server, options.question);
      return await send(server);
    } catch (error) {
      const restMs = options.restMs(error);
      if (restMs !== undefined) {
        server.restUntilMs = this.#now() + restMs;
        // What comes back may be another.
        server.identity = undefined;
      }
      throw error;
    } finally {
      server.work -= options.work;
    }
  }

  get count(): number {
    return this.#servers.length;
  }

  /** How long until a server does not rest, in ms; undefined when there is no choice of servers. */
  restingMs(): number | undefined {
    if (this.#servers.length === 1) return undefined;
    const untilMs = Math.min(...this.#servers.map(({ restUntilMs }) => restUntilMs));
    return Math.max(0, untilMs - this.#now());
  }

  /** Of those that do not rest, the one with the least work; or the one that rests the shortest. */
  #pick(): Held {
    const now = this.#now();
    const awake = this.#servers.filter(({ restUntilMs }) => restUntilMs <= now);
    const [first, ...others] = awake.length > 0 ? awake : this.#servers;
    if (first === undefined) throw new Error('A client has at least one server.');
    const rank = awake.length > 0 ? (one: Held) => one.work : (one: Held) => one.restUntilMs;
    return others.reduce((best, one) => (rank(one) < rank(best) ? one : best), first);
  }

  /**
   * Asks all servers at the client's first request. Those that do not answer are asked before their
   * first text. A request that is ended while it asks ends itself alone: another one asks anew.
   *
   * @throws APIEncoderError CLIENT_MODELS_DIFFER, or why none has answered.
   */
  async #agree(question: InfoQuestion): Promise<void> {
    const { signal } = question;
    while (this.#identity === undefined) {
      this.#asking ??= {
        by: signal,
        answered: this.#askAll(question).finally(() => {
          this.#asking = undefined;
        }),
      };
      const { by, answered } = this.#asking;
      try {
        await Promise.race([answered, whenAborted(signal)]);
      } catch (error) {
        signal.throwIfAborted();
        if (!by.aborted) throw error;
      }
    }
  }

  async #askAll(question: InfoQuestion): Promise<void> {
    const answers = await Promise.allSettled(
      this.#servers.map((server) => this.#identityOf(server, question)),
    );
    const known = this.#servers.filter(({ identity }) => identity !== undefined);
    const identity = known[0]?.identity;
    if (identity === undefined) {
      throw answers.find((answer) => answer.status === 'rejected')?.reason;
    }
    const other = known.find((server) => server.identity !== identity);
    if (other !== undefined) throw differ(known[0]?.baseUrl ?? '', other.baseUrl, false);
    this.#identity = identity;
  }

  /** @throws APIEncoderError CLIENT_MODELS_DIFFER, which is worth a try at another server. */
  async #confirm(server: Held, question: InfoQuestion): Promise<void> {
    if (server.identity === undefined || server.identityUntilMs <= this.#now()) {
      await this.#identityOf(server, question);
    }
    if (server.identity === this.#identity) return;
    const like = this.#servers.find(({ identity }) => identity === this.#identity);
    throw differ(like?.baseUrl ?? 'The servers of before', server.baseUrl, true);
  }

  async #identityOf(server: Held, { ask, signal }: InfoQuestion): Promise<void> {
    try {
      server.identity = identityOfInfo(await ask(server));
      server.identityUntilMs = this.#now() + IDENTITY_MS;
    } catch (error) {
      server.identity = undefined;
      // Long enough for the others to be asked first. That nobody waits any more says nothing of it.
      if (!signal.aborted) server.restUntilMs = this.#now() + 1000;
      throw error;
    }
  }
}

/** What two servers must have in common for their rows to be of one space. */
function identityOfInfo(body: Uint8Array): string {
  try {
    const { model, model_sha } = JSON.parse(new TextDecoder().decode(body));
    const { id, dim, max_tokens, pooling, normalized, prefixes, heads } = model;
    if (typeof id === 'string') {
      return JSON.stringify([id, model_sha, dim, max_tokens, pooling, normalized, prefixes, heads]);
    }
  } catch {
    // What is no JSON names no model either.
  }
  throw new APIEncoderError('CLIENT_REPLY_INVALID', 'The reply to /info names no model.');
}

function differ(one: string, other: string, retryable: boolean): APIEncoderError {
  const message = `${one} and ${other} serve different models: their vectors must not be mixed.`;
  return new APIEncoderError('CLIENT_MODELS_DIFFER', message, { retryable });
}
