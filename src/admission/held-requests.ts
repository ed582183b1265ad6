import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

/** What a request takes while it stands before the queue. */
interface HeldDemand {
  readonly caller: string | undefined;
  /** As `sizeClassOf` has it. */
  readonly sizeClass: number;
  readonly textCount: number;
  /** Of its texts, as they lie in memory. */
  readonly byteCount: number;
}

interface Waiting<Demand, Place> {
  readonly demand: Demand;
  admit(place: Place): void;
  refuse(error: ServerError): void;
}

/** How much may stand before the queue, all together. */
export interface HoldLimits {
  readonly holdTextsMax: number;
  readonly holdBytesMax: number;
}

/**
 * Requests that stand before a full queue for a while, in place of a refusal. Clients send a whole
 * corpus at once and try each call three times; a promise costs them nothing, a refusal one try.
 *
 * Callers take turns, and each caller's requests of one size go in the order in which they came. A
 * request that does not fit yet keeps nobody else's from going, and none of another size.
 */
export class HeldRequests<Demand extends HeldDemand, Place> {
  readonly #clock: Clock;
  readonly #limits: HoldLimits;
  readonly #byCaller = new Map<string | undefined, Map<number, Set<Waiting<Demand, Place>>>>();
  #textCount = 0;
  #byteCount = 0;

  constructor(clock: Clock, limits: HoldLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get textCount(): number {
    return this.#textCount;
  }

  hasRoomFor({ textCount, byteCount }: Demand): boolean {
    return (
      this.#textCount + textCount <= this.#limits.holdTextsMax &&
      this.#byteCount + byteCount <= this.#limits.holdBytesMax
    );
  }

  /**
   * @param options.atLast asked when it has waited for `holdMs`: gives a place, or throws.
   * @throws ServerError of that, EMB_REQUEST_ABORTED, or what `close` was given.
   */
  hold(
    demand: Demand,
    options: { holdMs: number; signal: AbortSignal | undefined; atLast: () => Place },
  ): Promise<Place> {
    const { holdMs, signal, atLast } = options;
    return new Promise((resolve, reject) => {
      const end = (): void => {
        cancelTimer();
        signal?.removeEventListener('abort', onAbort);
        this.#remove(waiting);
      };
      const waiting: Waiting<Demand, Place> = {
        demand,
        admit(place) {
          end();
          resolve(place);
        },
        refuse(error) {
          end();
          reject(error);
        },
      };
      const onAbort = (): void =>
        waiting.refuse(
          new ServerError('EMB_REQUEST_ABORTED', 'The caller hung up before the reply.'),
        );
      const cancelTimer = this.#clock.schedule(holdMs, () => {
        end();
        try {
          resolve(atLast());
        } catch (error) {
          reject(error);
        }
      });
      this.#add(waiting);
      if (signal?.aborted) onAbort();
      else signal?.addEventListener('abort', onAbort);
    });
  }

  /** There is more room: lets in what fits. @param admit gives a place, or undefined. */
  letIn(admit: (demand: Demand) => Place | undefined): void {
    let isDone = this.#byCaller.size === 0;
    while (!isDone) {
      isDone = true;
      for (const [caller, lines] of [...this.#byCaller]) {
        if (!letInFirst(lines, admit)) continue;
        isDone = false;
        // To the end of the turn.
        if (this.#byCaller.delete(caller) && lines.size > 0) this.#byCaller.set(caller, lines);
      }
    }
  }

  close(error: ServerError): void {
    for (const lines of [...this.#byCaller.values()]) {
      for (const line of [...lines.values()]) {
        for (const waiting of [...line]) waiting.refuse(error);
      }
    }
  }

  #add(waiting: Waiting<Demand, Place>): void {
    const { caller, sizeClass, textCount, byteCount } = waiting.demand;
    const lines = this.#byCaller.get(caller) ?? new Map();
    const line = lines.get(sizeClass) ?? new Set();
    this.#byCaller.set(caller, lines.set(sizeClass, line.add(waiting)));
    this.#textCount += textCount;
    this.#byteCount += byteCount;
  }

  #remove(waiting: Waiting<Demand, Place>): void {
    const { caller, sizeClass, textCount, byteCount } = waiting.demand;
    const lines = this.#byCaller.get(caller);
    const line = lines?.get(sizeClass);
    if (lines === undefined || !line?.delete(waiting)) return;
    if (line.size === 0) lines.delete(sizeClass);
    if (lines.size === 0) this.#byCaller.delete(caller);
    this.#textCount -= textCount;
    this.#byteCount -= byteCount;
  }
}

/** Lets in the first request of a caller that fits. @returns whether one did. */
function letInFirst<Demand, Place>(
  lines: Map<number, Set<Waiting<Demand, Place>>>,
  admit: (demand: Demand) => Place | undefined,
): boolean {
  for (const [sizeClass, line] of lines) {
    const [first] = line;
    const place = admit(first.demand);
    if (place === undefined) continue;
    first.admit(place);
    // To the end of its caller's lines.
    if (lines.delete(sizeClass)) lines.set(sizeClass, line);
    return true;
  }
  return false;
}

/**
 * The size class of a request: each is for up to sixteen times the tokens of the one before it. A
 * caller's requests wait behind such of their own class alone. So a query does not wait for a
 * corpus that comes from the same address or with the same key, and nothing waits for what is much
 * larger.
 */
export function sizeClassOf(workTokenCount: number): number {
  return Math.min(SIZE_CLASS_MAX, Math.floor(Math.log2(Math.max(1, workTokenCount)) / 4));
}

/** From 65,536 tokens on requests are of one class. */
const SIZE_CLASS_MAX = 4;
