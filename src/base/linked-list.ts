/** An item's place in a list. */
export interface Link<Item> {
  readonly item: Item;
}

interface Node<Item> extends Link<Item> {
  before: Node<Item> | undefined;
  after: Node<Item> | undefined;
}

/**
 * Items in the order in which they came, for what comes and goes with each request. A `Set` does
 * the same, and keeps up to two thirds of all that was ever in it until the next full collection:
 * when the engine makes it a new table, the old one refers to the new one, and what is old and dead
 * keeps alive what is new (`findings/bun-set-survives-collections.sh`). A removed link refers to no
 * other.
 */
export class LinkedList<Item> implements Iterable<Item> {
  #first: Node<Item> | undefined;
  #last: Node<Item> | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get first(): Link<Item> | undefined {
    return this.#first;
  }

  /** @returns what it is removed by. */
  add(item: Item): Link<Item> {
    const node: Node<Item> = { item, before: this.#last, after: undefined };
    if (this.#last === undefined) this.#first = node;
    else this.#last.after = node;
    this.#last = node;
    this.#size++;
    return node;
  }

  /** @param link of this list. @returns false when it was removed before. */
  remove(link: Link<Item>): boolean {
    const node = link as Node<Item>;
    const { before, after } = node;
    if (before === undefined && this.#first !== node) return false;
    if (before === undefined) this.#first = after;
    else before.after = after;
    if (after === undefined) this.#last = before;
    else after.before = before;
    node.before = undefined;
    node.after = undefined;
    this.#size--;
    return true;
  }

  /** Meanwhile no other item may be removed than the one at hand. */
  *[Symbol.iterator](): Generator<Item> {
    for (let node = this.#first; node !== undefined; ) {
      const { item, after } = node;
      yield item;
      node = after;
    }
  }
}
