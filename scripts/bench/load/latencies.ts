import type { Latencies } from './load-plan.ts';

/**
 * Percentiles by nearest rank: each is a time that some request really took.
 *
 * @param times in ms, in any order; sorted in place.
 */
export function latenciesOf(times: Float64Array): Latencies {
  const { length: count } = times;
  if (count === 0) return { count, mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 };
  times.sort();
  const at = (share: number): number => times[Math.max(0, Math.ceil(share * count) - 1)];
  let sum = 0;
  for (const time of times) sum += time;
  return {
    count,
    mean: sum / count,
    p50: at(0.5),
    p90: at(0.9),
    p99: at(0.99),
    p999: at(0.999),
    max: at(1),
  };
}

/** Times of several kinds, kept until the end. Eight bytes each: a million requests are 8 MB. */
export class TimesByKind {
  readonly #times = new Map<string, { values: Float64Array; count: number }>();

  add(kind: string, ms: number): void {
    let entry = this.#times.get(kind);
    if (entry === undefined) {
      entry = { values: new Float64Array(1024), count: 0 };
      this.#times.set(kind, entry);
    }
    if (entry.count === entry.values.length) {
      const grown = new Float64Array(entry.values.length * 2);
      grown.set(entry.values);
      entry.values = grown;
    }
    entry.values[entry.count++] = ms;
  }

  summary(): Record<string, Latencies> {
    const byKind: Record<string, Latencies> = {};
    for (const [kind, { values, count }] of this.#times) {
      byKind[kind] = latenciesOf(values.slice(0, count));
    }
    return byKind;
  }
}

/** The middle of some values; the lower one of two. NaN of none. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}
