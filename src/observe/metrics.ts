import { collectDefaultMetrics, Registry } from 'prom-client';
import { ERRORS } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import {
  createMetricBook,
  Family,
  type MetricBook,
  type MetricNumbers,
  type MetricOptions,
  RunningCounter,
} from './metric-book.ts';

/** Every number that the server counts, and the text in which Prometheus reads them. */
export interface Metrics {
  /** One reply. `route` is a pattern of ours, no caller's path; background is timed apart. */
  request(route: string, status: number, durationMs: number, isBackground?: boolean): void;
  /** A reply that carries an error of the catalogue. */
  error(code: string): void;
  /** The texts of one request that were encoded; `tokenCount` is before truncation. */
  texts(work: { textCount: number; tokenCount: number; truncatedCount: number }): void;
  /** Those of them that were background. */
  background(work: { textCount: number; tokenCount: number }): void;
  /** Time of one request in one stage. */
  stage(stage: Stage, durationMs: number): void;
  batch(report: BatchNumbers): void;
  /** A number that is read when it is scraped; several when it is told apart by a label. */
  counter(options: MetricOptions, read: () => number): void;
  gauge(options: MetricOptions, read: () => number): void;
  counters(options: MetricOptions & { label: string }, read: LabelledRead): void;
  gauges(options: MetricOptions & { label: string }, read: LabelledRead): void;
  /** Facts that do not change, as labels of a metric that is always 1. */
  facts(options: MetricOptions, labels: Readonly<Record<string, string>>): void;
  /** The same log; deaths of workers that pass through it are counted. */
  counting(log: Log): Log;
  /** The exposition format, and its Content-Type. */
  text(): Promise<string>;
  /** The same as data, to be added to that of other processes. */
  numbers(): Promise<readonly MetricNumbers[]>;
  readonly contentType: string;
}

/** Values of the label, each with its number. */
type LabelledRead = () => Iterable<readonly [string, number]>;

const STAGES = ['read', 'tokenize', 'queue', 'background-queue', 'infer', 'reply'] as const;
/** The stages of a request, as `Server-Timing` names them; background texts wait apart. */
export type Stage = (typeof STAGES)[number];

/** What the metrics want to know of a batch: a part of the batcher's report. */
export interface BatchNumbers {
  readonly textCount: number;
  /** Padding included, where it is computed. */
  readonly computedTokenCount: number;
  readonly tokenCount: number;
  readonly inferMs: number;
  readonly error: { readonly code: string } | undefined;
  readonly rescueCallCount: number;
}

/** From 50 µs, a stage that does nothing, to 105 s, beyond the longest deadline: each is double. */
const SECONDS = Array.from({ length: 22 }, (_, step) => 0.000_05 * 2 ** step);

/** To the largest batch that a setting allows. */
const COUNTS = Array.from({ length: 13 }, (_, step) => 2 ** step);

/** Facts of V8 that the library asks for; Bun answers them with zeros or another engine's sizes. */
const OF_NODE_ALONE =
  /^nodejs_(active_(resources|handles|requests)|heap_space_|gc_duration_|version_info)/;

/**
 * How often the lag of the event loop is looked at, in ms. A tick wakes a thread that may have
 * nothing else to do; the library's 10 ms would be a hundred of them a second.
 */
const LAG_TICK_MS = 100;

/**
 * Metrics of one server. What happens for each request is added to plain numbers; text is made when
 * Prometheus asks.
 */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LAG_TICK_MS });
  for (const { name } of registry.getMetricsAsArray()) {
    if (OF_NODE_ALONE.test(name)) registry.removeSingleMetric(name);
  }
  const book = createMetricBook(registry);
  const deaths = book.counters({
    name: 'bge_encoder_worker_restarts_total',
    help: 'Workers that died; each is replaced, until it has died too often in a row.',
    label: 'kind',
  });
  for (const kind of ['tokenizer', 'inference']) deaths.of(kind);
  const alone = (read: () => number) => () => [{ labels: {}, value: read() }];
  const labelled =
    (type: 'counter' | 'gauge') =>
    (options: MetricOptions & { label: string }, read: LabelledRead): void =>
      book.scraped(options, type, () =>
        Array.from(read(), ([key, value]) => ({ labels: { [options.label]: key }, value })),
      );
  return {
    ...requestMetrics(book),
    ...workMetrics(book),
    batch: batchMetrics(book),
    counter: (options, read) => book.scraped(options, 'counter', alone(read)),
    gauge: (options, read) => book.scraped(options, 'gauge', alone(read)),
    counters: labelled('counter'),
    gauges: labelled('gauge'),
    facts: (options, labels) =>
      book.scraped({ ...options, together: 'first' }, 'gauge', () => [{ labels, value: 1 }]),
    counting: (log) => ({
      ...log,
      error(event, fields) {
        if (event === 'worker-died') deaths.of(kindOfWorker(String(fields?.worker))).value++;
        log.error(event, fields);
      },
    }),
    text: () => registry.metrics(),
    // The library's type says less than what it gives: each has its samples.
    numbers: async () => (await registry.getMetricsAsJSON()) as unknown as MetricNumbers[],
    contentType: registry.contentType,
  };
}

function requestMetrics(book: MetricBook): Pick<Metrics, 'request' | 'error'> {
  const routes = new Family(() => new Family(() => new RunningCounter()));
  const total = { name: 'bge_encoder_requests_total', help: 'Replies, by route and HTTP status.' };
  book.scraped(total, 'counter', () =>
    [...routes.entries()].flatMap(([route, statuses]) =>
      Array.from(statuses.entries(), ([status, { value }]) => ({
        labels: { route, status },
        value,
      })),
    ),
  );
  const background = book.counters({
    name: 'bge_encoder_background_requests_total',
    help: 'Replies to background requests, by HTTP status; bge_encoder_requests_total has them too.',
    label: 'status',
  });
  for (const status of ['200', '429']) background.of(status);
  const seconds = book.histograms({
    name: 'bge_encoder_request_duration_seconds',
    help: 'From the head of a request to its reply, by route; background requests apart.',
    label: 'route',
    bounds: SECONDS,
  });
  const errors = book.counters({
    name: 'bge_encoder_errors_total',
    help: 'Replies that carry an error, by its code.',
    label: 'code',
  });
  // A rate can only be taken of what was there before its first event.
  for (const code of Object.keys(ERRORS)) errors.of(code);
  return {
    request(route, status, durationMs, isBackground = false) {
      const word = STATUS_WORDS[status] ?? String(status);
      routes.of(route).of(word).value++;
      if (isBackground) background.of(word).value++;
      seconds.of(isBackground ? 'background' : route).observe(durationMs / 1000);
    },
    error(code) {
      errors.of(code).value++;
    },
  };
}

function workMetrics(book: MetricBook): Pick<Metrics, 'texts' | 'background' | 'stage'> {
  const texts = book.counter({ name: 'bge_encoder_texts_total', help: 'Texts encoded.' });
  const tokens = book.counter({
    name: 'bge_encoder_tokens_total',
    help: 'Tokens of the encoded texts, before any was cut.',
  });
  const [backgroundTexts, backgroundTokens] = ['texts', 'tokens'].map((unit) =>
    book.counter({
      name: `bge_encoder_background_${unit}_total`,
      help: `Of the encoded ${unit}, those of the background.`,
    }),
  );
  const truncated = book.counter({
    name: 'bge_encoder_truncated_texts_total',
    help: 'Texts that were cut to what the model takes.',
  });
  const seconds = book.histograms({
    name: 'bge_encoder_stage_duration_seconds',
    help: 'Time of a request in one stage.',
    label: 'stage',
    bounds: SECONDS,
  });
  for (const stage of STAGES) seconds.of(stage);
  return {
    texts({ textCount, tokenCount, truncatedCount }) {
      texts.value += textCount;
      tokens.value += tokenCount;
      truncated.value += truncatedCount;
    },
    background({ textCount, tokenCount }) {
      backgroundTexts.value += textCount;
      backgroundTokens.value += tokenCount;
    },
    stage: (stage, durationMs) => seconds.of(stage).observe(durationMs / 1000),
  };
}

function batchMetrics(book: MetricBook): Metrics['batch'] {
  const outcomes = book.counters({
    name: 'bge_encoder_batches_total',
    help: 'Batches, by "ok" or the code of the error that the first call failed with.',
    label: 'outcome',
  });
  const ok = outcomes.of('ok');
  const [texts, seconds] = [
    book.histogram({ name: 'bge_encoder_batch_texts', help: 'Texts in a batch.', bounds: COUNTS }),
    book.histogram({
      name: 'bge_encoder_batch_duration_seconds',
      help: 'Time of a batch at the backend, further tries included.',
      bounds: SECONDS,
    }),
  ];
  const real = book.counter({
    name: 'bge_encoder_batch_tokens_total',
    help: 'Tokens sent in batches, padding not included.',
  });
  const padded = book.counter({
    name: 'bge_encoder_batch_padded_tokens_total',
    help: 'Tokens sent in batches, padding included.',
  });
  const rescues = book.counter({
    name: 'bge_encoder_batch_rescue_calls_total',
    help: 'Further calls that were spent on saving the texts of failed batches.',
  });
  return (report) => {
    (report.error === undefined ? ok : outcomes.of(report.error.code)).value++;
    texts.observe(report.textCount);
    seconds.observe(report.inferMs / 1000);
    real.value += report.tokenCount;
    padded.value += report.computedTokenCount;
    rescues.value += report.rescueCallCount;
  };
}

/** Words for the statuses that are frequent, so that none is made for a request. */
const STATUS_WORDS: Readonly<Record<number, string>> = { 200: '200', 422: '422', 429: '429' };

/** `tokenizer-1` is a tokenizer: which of them it was is no label. */
function kindOfWorker(name: string): string {
  return name.replace(/-\d+$/, '');
}
