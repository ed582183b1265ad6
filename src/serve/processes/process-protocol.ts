import type { MetricNumbers } from '../../observe/metric-book.ts';

/**
 * Everything that the supervisor and the processes of a server tell each other, by the channel that
 * Bun opens between a process and one that it starts.
 */

/** What a process says. */
export type FromProcess =
  /** It takes connections; `banner` is the line for people. */
  | { readonly kind: 'listening'; readonly banner: string }
  /** Its workers are up, too. */
  | { readonly kind: 'started' }
  /** Somebody asks it for `/metrics`, which are those of all processes. */
  | { readonly kind: 'scrape'; readonly id: number }
  /** Its own numbers, as an answer to `count`. */
  | { readonly kind: 'numbers'; readonly id: number; readonly metrics: readonly MetricNumbers[] };

/** What the supervisor says. */
export type FromSupervisor =
  /** Asks for `numbers`. */
  | { readonly kind: 'count'; readonly id: number }
  /** The answer to `scrape`, in the text format of Prometheus. */
  | { readonly kind: 'scraped'; readonly id: number; readonly text: string };

/** @returns undefined for what no process of this version says. */
export function parseFromProcess(value: unknown): FromProcess | undefined {
  const { kind, id, banner, metrics } = fieldsOf(value);
  if (kind === 'started') return { kind };
  if (kind === 'listening' && typeof banner === 'string') return { kind, banner };
  if (kind === 'scrape' && isId(id)) return { kind, id };
  if (kind === 'numbers' && isId(id) && isNumbers(metrics)) return { kind, id, metrics };
  return undefined;
}

/** @returns undefined for what no supervisor of this version says. */
export function parseFromSupervisor(value: unknown): FromSupervisor | undefined {
  const { kind, id, text } = fieldsOf(value);
  if (kind === 'count' && isId(id)) return { kind, id };
  if (kind === 'scraped' && isId(id) && typeof text === 'string') return { kind, id, text };
  return undefined;
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isNumbers(value: unknown): value is readonly MetricNumbers[] {
  return Array.isArray(value) && value.every(isMetric);
}

function isMetric(value: unknown): boolean {
  const { name, help, type, aggregator, values } = fieldsOf(value);
  const isNamed = [name, help, type, aggregator].every((word) => typeof word === 'string');
  return isNamed && Array.isArray(values) && values.every(isSample);
}

function isSample(value: unknown): boolean {
  const { labels, value: number } = fieldsOf(value);
  return typeof labels === 'object' && labels !== null && typeof number === 'number';
}
