import type { Head } from '../vectors/head.ts';

/** What a lane orders by. */
export interface Due {
  /** When it should have been served by, in ms of the clock. */
  readonly dueMs: number;
  /** Order of arrival; settles equal due times. */
  readonly sequence: number;
}

/**
 * The waiting texts of one padded length and one set of heads, most urgent first: a binary heap.
 * Push and pop cost O(log n).
 */
export class Lane<Item extends Due> {
  readonly paddedLength: number;
  readonly heads: readonly Head[];
  #heap: Item[] = [];

  constructor(paddedLength: number, heads: readonly Head[]) {
    this.paddedLength = paddedLength;
    this.heads = heads;
  }

  get textCount(): number {
    return this.#heap.length;
  }

  /** When the most urgent text is due; infinite for an empty lane. */
  get dueMs(): number {
    return this.#heap.length === 0 ? Number.POSITIVE_INFINITY : this.#heap[0].dueMs;
  }

  push(item: Item): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(item);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (isBefore(heap[parent], item)) break;
      heap[index] = heap[parent];
      index = parent;
    }
    heap[index] = item;
  }

  /** In no order. */
  items(): readonly Item[] {
    return this.#heap;
  }

  /** Takes the most urgent text; undefined when the lane is empty. */
  pop(): Item | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return last;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (isBefore(last, heap[child])) break;
      heap[index] = heap[child];
      index = child;
    }
    heap[index] = last;
    return top;
  }

  /**
   * Drops what `isKept` is false for. Pushed one by one in any order, the rest costs at most O(n
   * log n).
   */
  retain(isKept: (item: Item) => boolean): void {
    const kept = this.#heap.filter(isKept);
    this.#heap = [];
    for (const item of kept) this.push(item);
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.sequence < b.sequence);
}
