import type { Admission } from '../../admission/admission.ts';
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
  metrics.gauges(
    {
      name: 'bge_encoder_backend_endpoint_up',
      help: '1 while the endpoint of the backend answers.',
      label: 'endpoint',
      together: 'min',
    },
    () => (backend.endpoints?.list() ?? []).map(({ url, reason }) => [url, reason === '' ? 1 : 0]),
  );
  metrics.gauges(
    {
      name: 'bge_encoder_backend_endpoint_batches_in_flight',
      help: 'Batches at the endpoint of the backend.',
      label: 'endpoint',
    },
    () =>
      (backend.endpoints?.list() ?? []).map(({ url, batchesInFlight }) => [url, batchesInFlight]),
  );
  metrics.facts(
    { name: 'bge_encoder_build_info', help: 'What runs here; always 1.' },
    { version, model: manifest.id, backend: backend.name },
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
