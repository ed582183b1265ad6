import type { Arrival, LoadResult } from '../load/load-plan.ts';

/** One run of the bench, as its JSON file holds it and `--compare` reads it. */
export interface BenchReport {
  /** Grows when a field changes its meaning. */
  readonly version: 1;
  readonly startedAt: string;
  readonly commit: Commit;
  readonly machine: Machine;
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly micro: readonly MicroResult[];
  readonly scenarios: readonly ScenarioResult[];
}

/** What was measured. */
export interface Commit {
  readonly id: string;
  /** Files differ from the commit. */
  readonly isDirty: boolean;
}

/** Where it was measured. */
export interface Machine {
  readonly processor: string;
  readonly coreCount: number;
  readonly memoryBytes: number;
  readonly system: string;
  readonly bun: string;
  /**
   * Load average of the minute before: anything near 1 and above means that others were at work,
   * too.
   */
  readonly loadBefore: number;
}

/** One micro-benchmark. */
export interface MicroResult {
  readonly group: string;
  readonly name: string;
  /** What one operation is: a text, a batch, a row. */
  readonly per: string;
  /** Median and 99th percentile of one operation, in µs. */
  readonly p50Us: number;
  readonly p99Us: number;
  readonly sampleCount: number;
}

/** One scenario under all its loads. */
export interface ScenarioResult {
  readonly name: string;
  readonly about: string;
  readonly loads: readonly LoadPoint[];
  /** Folder of the profiles, where they were asked for. */
  readonly profileDir: string | null;
}

/** One scenario under one load. */
export interface LoadPoint {
  readonly label: string;
  readonly arrival: Arrival;
  readonly result: LoadResult;
  /** Resident memory of the server afterwards, in bytes; null of a server that is not ours. */
  readonly residentBytes: number | null;
  /** How many batches of each size reached the model; null where nobody counts them. */
  readonly batches: readonly (readonly [textCount: number, batchCount: number])[] | null;
}

/** Replies a second inside the measured window. */
export function requestsPerSecond({ result }: LoadPoint): number {
  return (result.requestCount * 1000) / result.measuredMs;
}

export function textsPerSecond({ result }: LoadPoint): number {
  return (result.textCount * 1000) / result.measuredMs;
}

/** Tokens that were not padding. */
export function tokensPerSecond({ result }: LoadPoint): number {
  return (result.tokenCount * 1000) / result.measuredMs;
}

/** Processor time that a process took for each request, in µs; null where it was not watched. */
export function cpuUsPerRequest({ result }: LoadPoint, process: string): number | null {
  const ms = result.cpuMs[process];
  return ms === undefined || result.requestCount === 0 ? null : (ms * 1000) / result.requestCount;
}

/** Mean texts of a batch; null where nobody counts them. */
export function meanBatch({ batches }: LoadPoint): number | null {
  if (batches === null) return null;
  const batchCount = batches.reduce((sum, [, count]) => sum + count, 0);
  const textCount = batches.reduce((sum, [size, count]) => sum + size * count, 0);
  return batchCount === 0 ? null : textCount / batchCount;
}

/**
 * Processor time of the server's threads for each request of its busiest closed load, in one line;
 * empty where they were not watched.
 */
export function threadLine(loads: readonly LoadPoint[]): string {
  const busiest = loads.findLast(({ arrival }) => arrival.kind === 'closed');
  const threads = Object.entries(busiest?.result.threadCpuMs ?? {})
    .map(([name, ms]) => [name, (ms * 1000) / (busiest?.result.requestCount ?? 1)] as const)
    .filter(([, us]) => us >= 0.1)
    .sort(([, a], [, b]) => b - a)
    .map(([name, us]) => `${name} ${us.toFixed(1)}`);
  if (threads.length === 0) return '';
  return `${busiest?.label}, server µs a request by thread: ${threads.join(', ')}`;
}
