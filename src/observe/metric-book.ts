import type { Metric, Registry } from 'prom-client';

/** Makes metrics and has them scraped. */
export interface MetricBook {
  counter(options: MetricOptions): RunningCounter;
  counters(options: MetricOptions & { label: string }): Family<RunningCounter>;
  histogram(options: MetricOptions & { bounds: readonly number[] }): RunningHistogram;
  histograms(
    options: MetricOptions & { label: string; bounds: readonly number[] },
  ): Family<RunningHistogram>;
  /** Any samples, made when they are scraped. */
  scraped(
    options: MetricOptions,
    type: 'counter' | 'gauge' | 'histogram',
    samples: () => readonly Sample[],
  ): void;
}

/**
 * A book of running metrics in prom-client's registry, which takes any object that answers `get` as
 * its own metrics do.
 */
export function createMetricBook(registry: Registry): MetricBook {
  const scraped: MetricBook['scraped'] = ({ name, help, together }, type, samples) => {
    const aggregator = together ?? 'sum';
    const get = async () => ({ name, help, type, aggregator, values: samples() });
    // The library's type names its own classes; it uses `name`, `get` and `reset` alone.
    registry.registerMetric({ name, get, reset: () => undefined } as unknown as Metric);
  };

  function counters(options: MetricOptions & { label: string }): Family<RunningCounter> {
    const family = new Family(() => new RunningCounter());
    scraped(options, 'counter', () =>
      Array.from(family.entries(), ([key, { value }]) => ({
        labels: { [options.label]: key },
        value,
      })),
    );
    return family;
  }

  function histograms(
    options: MetricOptions & { label: string; bounds: readonly number[] },
  ): Family<RunningHistogram> {
    const family = new Family(() => new RunningHistogram(options.bounds));
    scraped(options, 'histogram', () =>
      [...family.entries()].flatMap(([key, child]) =>
        child.samples(options.name, { [options.label]: key }),
      ),
    );
    return family;
  }

  return {
    counter(options) {
      const counter = new RunningCounter();
      scraped(options, 'counter', () => [{ labels: {}, value: counter.value }]);
      return counter;
    },
    counters,
    histogram(options) {
      const histogram = new RunningHistogram(options.bounds);
      scraped(options, 'histogram', () => histogram.samples(options.name, {}));
      return histogram;
    },
    histograms,
    scraped,
  };
}

/** One line of a scrape, as prom-client's registry prints it. */
export interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  readonly metricName?: string;
}

/** What every metric says of itself. */
export interface MetricOptions {
  /** With its unit, by Prometheus custom: `_seconds`, `_total`. */
  readonly name: string;
  readonly help: string;
  /** What several processes of one server say together; the sum unless told. */
  readonly together?: Together;
}

/** How the samples of several processes become one. */
export type Together = 'sum' | 'max' | 'min' | 'first';

/** A metric with its samples, as it travels between processes: plain data. */
export interface MetricNumbers {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  /** How prom-client adds it up: one of ours, or of the library's own. */
  readonly aggregator: string;
  readonly values: readonly Sample[];
}

/**
 * A number that only grows. The library's own counter hashes its labels at each call, which costs
 * about a µs; this one is a field that is added to, and becomes text when it is scraped.
 */
export class RunningCounter {
  value = 0;

  add(amount: number): void {
    this.value += amount;
  }
}

/** Observations in buckets: an increment each, no allocation. */
export class RunningHistogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  /** @param bounds upper bounds of the buckets, ascending; a last one without a bound is added. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > bounds[at]) at++;
    this.#counts[at]++;
    this.#sum += value;
  }

  /** Cumulated, as Prometheus wants them. */
  samples(name: string, labels: Sample['labels']): Sample[] {
    let count = 0;
    const buckets = Array.from(this.#counts, (inBucket, at) => {
      count += inBucket;
      const le = at === this.#bounds.length ? '+Inf' : this.#bounds[at];
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

/** Metrics of one name, one for each value of a label. Values must be few: each stays for good. */
export class Family<Child> {
  readonly #children = new Map<string, Child>();
  readonly #create: () => Child;

  constructor(create: () => Child) {
    this.#create = create;
  }

  of(label: string): Child {
    let child = this.#children.get(label);
    if (child === undefined) {
      child = this.#create();
      this.#children.set(label, child);
    }
    return child;
  }

  entries(): IterableIterator<[string, Child]> {
    return this.#children.entries();
  }
}
