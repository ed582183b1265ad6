import { AggregatorRegistry } from 'prom-client';
import type { MetricNumbers } from '../../observe/running-metric.ts';

/** What one process has counted. */
export type ProcessNumbers = readonly MetricNumbers[];

/**
 * One text for Prometheus from the numbers of several processes: counters and histograms are
 * summed, gauges by what each says of itself.
 */
export async function sumMetrics(parts: readonly ProcessNumbers[]): Promise<string> {
  return await aggregated(parts).metrics();
}

/** The same as data, to be added to others later. */
export async function sumNumbers(parts: readonly ProcessNumbers[]): Promise<ProcessNumbers> {
  return (await aggregated(parts).getMetricsAsJSON()) as unknown as ProcessNumbers;
}

/** What never shrinks: it stays true when the process that counted it is gone. */
export function countersOf(numbers: ProcessNumbers): ProcessNumbers {
  return numbers.filter(({ type }) => type === 'counter' || type === 'histogram');
}

function aggregated(parts: readonly ProcessNumbers[]): ReturnType<typeof asRegistry> {
  return asRegistry(
    parts.map((numbers) =>
      numbers.map((metric) => ({ ...metric, aggregator: aggregatorOf(metric) })),
    ),
  );
}

function asRegistry(parts: ProcessNumbers[]) {
  return AggregatorRegistry.aggregate(parts as unknown as object[]);
}

/** Where the library's own answer for its own metrics is not ours. */
function aggregatorOf({ name, aggregator }: MetricNumbers): string {
  // It leaves the start out; the first of them says since when there is a server.
  if (name === 'process_start_time_seconds') return 'min';
  // One event loop that stands still must not hide among others.
  return aggregator === 'average' ? 'max' : aggregator;
}
