/** What one caller holds of the queue. */
export interface Holding {
  readonly caller: string;
  textCount: number;
  tokenCount: number;
}

/**
 * A caller may hold this many times what is still free. Alone it gets eight ninths of the queue, of
 * n callers each nearly an nth, and whoever comes next always finds room. The scheme is the dynamic
 * threshold of shared-memory switches (Choudhury and Hahne, 1998): it needs neither a list of
 * callers nor a share for each.
 */
const FREE_FACTOR = 8;

/** Up to this part of the queue nobody is in anybody's way. */
const CONTENDED_FROM = 0.5;

/**
 * How much of one unit, texts or tokens, a caller may hold when the queue as a whole holds
 * `totalAfter`. Pure.
 */
export function shareOf(max: number, totalAfter: number): number {
  if (totalAfter <= max * CONTENDED_FROM) return max;
  return Math.max(1, FREE_FACTOR * (max - totalAfter));
}

/** Who holds how much. A caller that holds nothing takes no memory. */
export class Holdings {
  readonly #byCaller = new Map<string, Holding>();

  get callerCount(): number {
    return this.#byCaller.size;
  }

  /**
   * What `caller` holds: its own entry, or an empty one that counts only once `add` is called with
   * it.
   */
  of(caller: string): Holding {
    return this.#byCaller.get(caller) ?? { caller, textCount: 0, tokenCount: 0 };
  }

  add(holding: Holding, demand: { textCount: number; tokenCount: number }): void {
    if (holding.textCount === 0) this.#byCaller.set(holding.caller, holding);
    holding.textCount += demand.textCount;
    holding.tokenCount += demand.tokenCount;
  }

  remove(holding: Holding, demand: { textCount: number; tokenCount: number }): void {
    holding.textCount -= demand.textCount;
    holding.tokenCount -= demand.tokenCount;
    if (holding.textCount === 0) this.#byCaller.delete(holding.caller);
  }
}
