import type { Clock } from '../base/clock.ts';
import { ServerError } from '../base/errors.ts';

/** What a request takes while it stands before the queue. */
interface HeldDemand {
  readonly caller: string | undefined;
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
 * Callers take turns, and each caller's requests go in the order in which they came. A caller whose
 * first request does not fit yet keeps nobody else from going.
 */
export class HeldRequests<Demand extends HeldDemand, Place> {
  readonly #clock: Clock;
  readonly #limits: HoldLimits;
  readonly #byCaller = new Map<string | undefined, Set<Waiting<Demand, Place>>>();
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
   * @param options.refusal makes the error of a request that has waited for `holdMs` in vain.
   * @throws ServerError that error, EMB_REQUEST_ABORTED, or what `close` was given.
   */
  hold(
    demand: Demand,
    options: { holdMs: number; signal: AbortSignal | undefined; refusal: () => ServerError },
  ): Promise<Place> {
    const { holdMs, signal, refusal } = options;
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
      const cancelTimer = this.#clock.schedule(holdMs, () => waiting.refuse(refusal()));
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
      for (const [caller, requests] of [...this.#byCaller]) {
        const [first] = requests;
        const place = admit(first.demand);
        if (place === undefined) continue;
        isDone = false;
        first.admit(place);
        // To the end of the turn.
        if (!this.#byCaller.delete(caller) || requests.size === 0) continue;
        this.#byCaller.set(caller, requests);
      }
    }
  }

  close(error: ServerError): void {
    for (const requests of [...this.#byCaller.values()]) {
      for (const waiting of [...requests]) waiting.refuse(error);
    }
  }

  #add(waiting: Waiting<Demand, Place>): void {
    const { caller, textCount, byteCount } = waiting.demand;
    const requests = this.#byCaller.get(caller) ?? new Set();
    requests.add(waiting);
    this.#byCaller.set(caller, requests);
    this.#textCount += textCount;
    this.#byteCount += byteCount;
  }

  #remove(waiting: Waiting<Demand, Place>): void {
    const { caller, textCount, byteCount } = waiting.demand;
    const requests = this.#byCaller.get(caller);
    if (!requests?.delete(waiting)) return;
    if (requests.size === 0) this.#byCaller.delete(caller);
    this.#textCount -= textCount;
    this.#byteCount -= byteCount;
  }
}
