import type { Admission } from '../../admission/admission.ts';
import type { BackendEndpoint } from '../../backend/contract.ts';
import type { WaitingTexts } from '../../batcher/caller-queue.ts';
import type { Parts } from '../../encode/contract.ts';
import type { Together } from '../../observe/metric-book.ts';
import type { Metrics } from '../../observe/metrics.ts';
import { get, type Route } from '../api.ts';

/** What is scraped. */
export interface Scraped {
  readonly parts: Parts;
  readonly metrics: Metrics;
  /** Where the text for Prometheus comes from, when not from this process alone. */
  readonly scrape: (() => Promise<string>) | undefined;
  readonly version: string;
}

/** `GET /metrics`, in the text format of Prometheus. */
export function metricsRoute(shown: Scraped): Route {
  const { metrics, scrape = metrics.text } = shown;
  addGauges(shown);
  const headers = { 'content-type': metrics.contentType };
  return get('/metrics', DOCUMENT, async () => new Response(await scrape(), { headers }));
}

/** What is read off the parts at each scrape. */
function addGauges({ metrics, parts, version }: Scraped): void {
  const { batcher, backend, tokenizer, manifest } = parts;
  const gauge = (name: string, help: string, read: () => number, together?: Together): void =>
    metrics.gauge({ name: `bge_encoder_${name}`, help, ...(together && { together }) }, read);

  addQueueGauges(gauge, { kind: '', admission: parts.admission, waiting: batcher.foreground });
  addQueueGauges((name, ...rest) => gauge(`background_${name}`, ...rest), {
    kind: 'background ',
    admission: parts.backgroundAdmission,
    waiting: batcher.background,
  });
  gauge('batches_in_flight', 'Batches at the backend.', () => batcher.batchesInFlight);
  gauge(
    'batch_slots',
    'Batches that the backend takes at once.',
    () => backend.capabilities().slotCount,
  );
  gauge(
    'ready',
    '1 when a text sent now would be answered.',
    () => (backend.state().isReady && tokenizer.reason === '' ? 1 : 0),
    'min',
  );
  addEndpointMetrics(metrics, () => backend.endpoints?.list() ?? []);
  metrics.facts(
    { name: 'bge_encoder_build_info', help: 'What runs here; always 1.' },
    { version, model: manifest.id, backend: backend.name },
  );
}

/** What each endpoint of the backend does. An embedded model has none. */
function addEndpointMetrics(metrics: Metrics, list: () => readonly BackendEndpoint[]): void {
  const named = (name: string, help: string, together?: Together) => ({
    ...{ name: `bge_encoder_backend_endpoint_${name}`, help, label: 'endpoint' },
    ...(together && { together }),
  });
  const each = (read: (endpoint: BackendEndpoint) => number) => () =>
    list().map((endpoint) => [endpoint.url, read(endpoint)] as const);
  metrics.gauges(
    named('up', '1 while the endpoint of the backend answers.', 'min'),
    each(({ reason }) => (reason === '' ? 1 : 0)),
  );
  metrics.gauges(
    named('batches_in_flight', 'Batches at the endpoint of the backend.'),
    each(({ batchesInFlight }) => batchesInFlight),
  );
  metrics.gauges(
    named('late', '1 while others are taken before the endpoint, since a batch was late.', 'max'),
    each(({ isLate }) => (isLate ? 1 : 0)),
  );
  metrics.counters(
    named('second_tries_total', 'Batches late at the endpoint, and sent to another one too.'),
    each(({ secondTries }) => secondTries.sentCount),
  );
  metrics.counters(
    named('second_tries_won_total', 'Of these, those that the other one answered first.'),
    each(({ secondTries }) => secondTries.wonCount),
  );
}

/** What is in one queue: background texts wait and are counted apart. */
function addQueueGauges(
  gauge: (name: string, help: string, read: () => number, together?: Together) => void,
  {
    kind,
    admission,
    waiting,
  }: { kind: '' | 'background '; admission: Admission; waiting: WaitingTexts },
): void {
  gauge(
    'queue_texts',
    `Admitted ${kind}texts that are not answered yet.`,
    () => admission.admittedTextCount,
  );
  gauge(
    'queue_tokens',
    `Tokens of admitted ${kind}texts, estimated from lengths.`,
    () => admission.admittedTokenCount,
  );
  gauge(
    'waiting_texts',
    `Admitted ${kind}texts that wait for a batch.`,
    () => waiting.waitingTextCount,
  );
  gauge(
    'oldest_waiting_text_age_seconds',
    `Age of the ${kind}text that has waited longest for a batch; 0 when none waits.`,
    () => waiting.oldestWaitMs / 1000,
    'max',
  );
}

const DOCUMENT = {
  summary: 'Metrics for Prometheus',
  responses: {
    200: {
      description: 'The text format of Prometheus, version 0.0.4.',
      content: {
        'text/plain': {
          schema: { type: 'string' },
          example: '# TYPE bge_encoder_texts_total counter\nbge_encoder_texts_total 42\n',
        },
      },
    },
  },
} as const;
