import { type Clock, systemClock } from '../base/clock.ts';

interface Planned {
  readonly atMs: number;
  readonly sequence: number;
  readonly action: () => void;
}

/**
 * Time that stands still until a test moves it. What is due at the same ms runs in the order in
 * which it was asked for.
 */
export class VirtualClock implements Clock {
  #nowMs = 0;
  #sequence = 0;
  readonly #planned = new Set<Planned>();
  #turn: (() => void)[] = [];

  now(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, action: () => void): () => void {
    const atMs = this.#nowMs + Math.max(0, delayMs);
    const planned = { atMs, sequence: this.#sequence++, action };
    this.#planned.add(planned);
    return () => {
      this.#planned.delete(planned);
    };
  }

  afterTurn(action: () => void): void {
    this.#turn.push(action);
  }

  /**
   * Actions that are scheduled and neither run nor cancelled: a leak when nothing should be left.
   */
  get plannedCount(): number {
    return this.#planned.size;
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
    for (let next = this.#nextUntil(untilMs); next !== undefined; next = this.#nextUntil(untilMs)) {
      this.#planned.delete(next);
      this.#nowMs = next.atMs;
      next.action();
      await this.settle();
    }
    this.#nowMs = untilMs;
  }

  #nextUntil(untilMs: number): Planned | undefined {
    let next: Planned | undefined;
    for (const planned of this.#planned) {
      if (planned.atMs > untilMs) continue;
      const isEarlier =
        next === undefined ||
        planned.atMs < next.atMs ||
        (planned.atMs === next.atMs && planned.sequence < next.sequence);
      if (isEarlier) next = planned;
    }
    return next;
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
