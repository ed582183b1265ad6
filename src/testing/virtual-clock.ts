import { type Clock, systemClock } from '../base/clock.ts';

interface Planned {
  readonly atMs: number;
  readonly action: () => void;
  isOver: boolean;
}

/**
 * Time that stands still until a test moves it. What is due at the same ms runs in the order in
 * which it was asked for.
 */
export class VirtualClock implements Clock {
  #nowMs = 0;
  /** By descending time, the next one last; cancelled ones stay until their time has come. */
  readonly #planned: Planned[] = [];
  #plannedCount = 0;
  #turn: (() => void)[] = [];

  now(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const planned = { atMs: this.#nowMs + Math.max(0, delayMs), action, isOver: false };
    this.#planned.splice(this.#placeOf(planned.atMs), 0, planned);
    this.#plannedCount++;
    return () => {
      if (!planned.isOver) this.#plannedCount--;
      planned.isOver = true;
    };
  }

  afterTurn(action: () => void): void {
    this.#turn.push(action);
  }

  /**
   * Actions that are scheduled and neither run nor cancelled: a leak when nothing should be left.
   */
  get plannedCount(): number {
    return this.#plannedCount;
  }

  /**
   * Runs what waits for the end of this turn, and all promises that follow from it, until nothing
   * is left to do.
   */
  async settle(): Promise<void> {
    do {
      for (const action of this.#turn.splice(0)) action();
      await realTurn();
    } while (this.#turn.length > 0);
  }

  /** Moves time on, and runs what comes due on the way, each at its own time. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await this.settle();
    for (let next = this.#takeUntil(untilMs); next !== undefined; next = this.#takeUntil(untilMs)) {
      this.#nowMs = next.atMs;
      next.action();
      await this.settle();
    }
    this.#nowMs = untilMs;
  }

  /** Takes out what is due next, if that is not after `untilMs`. */
  #takeUntil(untilMs: number): Planned | undefined {
    for (let next = this.#planned.at(-1); next !== undefined; next = this.#planned.at(-1)) {
      if (next.atMs > untilMs) return undefined;
      this.#planned.pop();
      if (next.isOver) continue;
      next.isOver = true;
      this.#plannedCount--;
      return next;
    }
    return undefined;
  }

  /** Where something due at `atMs` goes: before all that is due at the same time or earlier. */
  #placeOf(atMs: number): number {
    let low = 0;
    let high = this.#planned.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#planned[middle].atMs > atMs) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * One turn of the machine's event loop: every promise that can settle without the outside has
 * settled after it.
 */
function realTurn(): Promise<void> {
  return new Promise((resolve) => {
    systemClock.afterTurn(resolve);
  });
}
