/** A stream of numbers that a seed replays; enough for test data, no more. */
export interface SeededRandom {
  /** A whole number from 0 to `limit - 1`. */
  below(limit: number): number;
  /** A whole number, both ends included. */
  between(min: number, max: number): number;
  /** One of `items`, which is not empty. */
  pick<Item>(items: readonly Item[]): Item;
}

/** Lehmer's generator with Park and Miller's constants: full period, exact in doubles. */
export function seededRandom(seed: number): SeededRandom {
  let state = (seed % 2_147_483_646) + 1;
  const below = (limit: number): number => {
    state = (state * 48_271) % 2_147_483_647;
    return Math.floor((state / 2_147_483_647) * limit);
  };
  return {
    below,
    between: (min, max) => min + below(max - min + 1),
    pick: (items) => items[below(items.length)],
  };
}
