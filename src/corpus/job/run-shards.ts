import { type ClientClock, createCancellation, onAbort } from '../../client/cancellation.ts';
import { mapInOrder } from '../../client/map-in-order.ts';
import { CorpusError } from '../corpus-error.ts';
import type { Lease } from '../queue/shard-queue.ts';
import type { ServerFleet } from '../servers/server-fleet.ts';
import type { PartFacts, PartWriter, Sink } from '../sinks/sink.ts';
import { type ExpectedRows, encodeTexts, type TextResult } from './encode-texts.ts';
import type { ShardReader } from './read-shards.ts';
import { type RequestLimits, ShardRows } from './shard-rows.ts';

/**
 * Results that wait for an earlier one or for the sink, for each request in flight: one being
 * written, one in reserve.
 */
const WINDOW_PER_REQUEST = 2;

/**
 * So many requests before the end of a shard the next one is read, or as many more as are sent
 * while a shard is read: a far bucket may take seconds. Earlier, a worker would hold a second shard
 * of a queue that another one could do.
 */
const READ_AHEAD_REQUESTS = 4;

/** What rows add up to. */
export type RowCounts = Pick<PartFacts, 'texts' | 'chunks' | 'tokens' | 'truncated' | 'failed'>;

/** How far the shards have come. */
export interface ShardProgress {
  /** Rows that were written, committed or not. */
  onRows(rows: RowCounts): void;
  onCommit(facts: PartFacts): void;
}

interface Piece {
  readonly lease: Lease;
  readonly shard: ShardRows;
  readonly texts: readonly string[];
  readonly characters: number;
  readonly isLast: boolean;
}

/**
 * Encodes shards one after the other, without a gap between them: while the last requests of one
 * are under way, the first of the next leave. Rows are written in order, and a part is committed
 * when its last row is; a sink that is slow holds up the sending, and that the reading.
 *
 * @throws CorpusError, or the signal's reason; no part is half there then.
 */
export async function runShards(options: {
  leases: AsyncIterable<Lease>;
  reader: Pick<ShardReader, 'read' | 'close'>;
  fleet: Pick<ServerFleet, 'encode' | 'concurrency'>;
  sink: Pick<Sink, 'openPart' | 'commitsAtOnce'>;
  limits: RequestLimits;
  expected: ExpectedRows;
  errorsInRowMax: number;
  clock: ClientClock;
  signal: AbortSignal;
  progress: ShardProgress;
}): Promise<void> {
  const { leases, reader, fleet, sink, limits, expected, clock, signal, progress } = options;
  const cancellation = createCancellation({ clock, parent: signal });
  const windowMax = fleet.concurrency * WINDOW_PER_REQUEST;
  const held = new HeldCharacters(windowMax * limits.requestCharactersMax, cancellation.signal);
  const done = mapInOrder({
    source: held.within(piecesOf({ leases, reader, limits, clock })),
    concurrency: fleet.concurrency,
    windowMax,
    cancellation,
    async work(piece): Promise<{ piece: Piece; results: readonly TextResult[] }> {
      const { texts } = piece;
      const results = texts.length === 0 ? [] : await encodeTexts({ fleet, texts, expected });
      return { piece, results };
    },
  });
  const run = new ErrorRun(options.errorsInRowMax);
  let part: PartWriter | undefined;
  const commits = new Commits(sink.commitsAtOnce, progress);
  try {
    for await (const { piece, results } of done) {
      const { shard, lease } = piece;
      part ??= await sink.openPart(shard.index);
      const before = shard.facts();
      const rows = shard.take(results);
      run.check(rows, shard.index);
      await part.write(rows);
      shard.release();
      held.give(piece.characters);
      const facts = shard.facts();
      progress.onRows(differenceOf(facts, before));
      if (!piece.isLast) continue;
      await commits.begin(part, facts, lease);
      part = undefined;
    }
    await commits.settled();
  } finally {
    await part?.abandon();
    await commits.settled().catch(() => undefined);
    cancellation.release();
    await reader.close();
  }
}

/**
 * Characters of requests that are begun and not yet written. Results grow with them, and a single
 * text may be larger than a request should be: sixteen multi-vectors of 8,192 tokens are 500 MB.
 */
class HeldCharacters {
  readonly #max: number;
  readonly #signal: AbortSignal;
  #held = 0;
  #wake = (): void => undefined;

  constructor(max: number, signal: AbortSignal) {
    this.#max = max;
    this.#signal = signal;
  }

  /**
   * Hands on a piece while what is held is under the most, so the last one may go over it: of texts
   * of 8,192 tokens one is encoded while another comes back.
   */
  async *within(
    pieces: AsyncGenerator<Piece, void, undefined>,
  ): AsyncGenerator<Piece, void, undefined> {
    const stopListening = onAbort(this.#signal, () => this.#wake());
    try {
      for await (const piece of pieces) {
        while (this.#held >= this.#max) {
          this.#signal.throwIfAborted();
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
        this.#held += piece.characters;
        yield piece;
      }
    } finally {
      stopListening();
    }
  }

  give(characters: number): void {
    this.#held -= characters;
    this.#wake();
  }
}

/**
 * Commits parts while the next ones are written: a disk takes tens of milliseconds to say that it
 * has everything, a bucket two round trips, and the servers would stand idle.
 */
class Commits {
  readonly #max: number;
  readonly #progress: ShardProgress;
  readonly #running = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];

  /** @param max so many at the same time. */
  constructor(max: number, progress: ShardProgress) {
    this.#max = max;
    this.#progress = progress;
  }

  /** Begins this one when there is room. @throws what one before has thrown. */
  async begin(part: PartWriter, facts: PartFacts, lease: Lease): Promise<void> {
    while (this.#running.size >= this.#max) await Promise.race(this.#running);
    this.#check();
    const running = this.#commit(part, facts, lease)
      .catch((error) => void this.#failures.push(error))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Waits for all. @throws what the first that failed has thrown. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
    this.#check();
  }

  #check(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  async #commit(part: PartWriter, facts: PartFacts, lease: Lease): Promise<void> {
    try {
      await part.commit(facts);
    } catch (error) {
      await part.abandon();
      throw error;
    }
    await lease.done();
    this.#progress.onCommit(facts);
  }
}

/**
 * The requests of all shards in order. The next shard is leased and read while the last requests of
 * the one before are still to be sent, so that the servers never wait for a disk or a bucket.
 */
async function* piecesOf(options: {
  leases: AsyncIterable<Lease>;
  reader: Pick<ShardReader, 'read' | 'close'>;
  limits: RequestLimits;
  clock: ClientClock;
}): AsyncGenerator<Piece, void, undefined> {
  const { reader, limits, clock } = options;
  const pace = new Pace(clock);
  const leases = options.leases[Symbol.asyncIterator]();
  let isReading = false;
  let isOver = false;
  const readNext = async (): Promise<{ lease: Lease; shard: ShardRows } | undefined> => {
    isReading = true;
    const { value: lease, done } = await leases.next();
    const isRead = done !== true && !isOver;
    const records = isRead ? await pace.timeRead(reader.read(lease.shard)) : undefined;
    isReading = false;
    return records && { lease, shard: new ShardRows(records) };
  };
  let next = readNext();
  try {
    for (let opened = await next; opened !== undefined; opened = await next) {
      const requests = opened.shard.requests(limits);
      const aheadFrom = Math.max(0, requests.length - pace.requestsAhead());
      const startMs = clock.now();
      for (const [index, texts] of requests.entries()) {
        if (index === aheadFrom) {
          next = readNext();
          // Whoever waits for it is told; until then nobody does.
          next.catch(() => undefined);
        }
        const characters = texts.reduce((sum, { length }) => sum + length, 0);
        yield { ...opened, texts, characters, isLast: index === requests.length - 1 };
      }
      pace.sent(requests.length, clock.now() - startMs);
    }
  } finally {
    isOver = true;
    const closed = leases.return?.();
    // What waits for a shard of a queue may wait for long; `close` of those who deal gives back.
    if (isReading) closed?.catch(() => undefined);
    else await closed;
  }
}

/** How long the last shard took to be read, and its requests to be sent. */
class Pace {
  readonly #clock: ClientClock;
  #readMs = 0;
  #requestMs = Infinity;

  constructor(clock: ClientClock) {
    this.#clock = clock;
  }

  async timeRead<Result>(reading: Promise<Result>): Promise<Result> {
    const startMs = this.#clock.now();
    const result = await reading;
    this.#readMs = this.#clock.now() - startMs;
    return result;
  }

  sent(requestCount: number, elapsedMs: number): void {
    this.#requestMs = elapsedMs / requestCount;
  }

  /** Requests that are sent while a shard is read, and those in reserve. */
  requestsAhead(): number {
    const sentMeanwhile = this.#readMs === 0 ? 0 : Math.ceil(this.#readMs / this.#requestMs);
    return READ_AHEAD_REQUESTS + sentMeanwhile;
  }
}

function differenceOf(after: PartFacts, before: PartFacts): RowCounts {
  return {
    texts: after.texts - before.texts,
    chunks: (after.chunks ?? 0) - (before.chunks ?? 0),
    tokens: after.tokens - before.tokens,
    truncated: after.truncated - before.truncated,
    failed: after.failed - before.failed,
  };
}

/** Counts rows with errors that follow one another, over the ends of parts. */
class ErrorRun {
  readonly #max: number;
  #count = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** @throws CorpusError CORPUS_TEXTS_FAILED. */
  check(rows: readonly { id: unknown; error: string | undefined }[], part: number): void {
    for (const { id, error } of rows) {
      this.#count = error === undefined ? 0 : this.#count + 1;
      if (this.#count < this.#max) continue;
      throw new CorpusError(
        'CORPUS_TEXTS_FAILED',
        `${this.#count} texts in a row failed, up to id ${String(id)} in part ${part}: ${error}. ` +
          'Is this the right field and server? --errors-in-row-max raises the limit.',
        undefined,
        part,
      );
    }
  }
}
