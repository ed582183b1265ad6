import { describe, expect, test } from 'bun:test';
import { createLog } from '../base/log.ts';
import { parseScrape } from '../testing/scraped-metrics.ts';
import { createMetrics } from './metrics.ts';

const SILENT = createLog({ level: 'error', write: () => undefined });

describe('the metrics', () => {
  test('come out as they were added, labels told apart', async () => {
    const metrics = createMetrics();
    metrics.request('/encode', 200, 12);
    metrics.request('/encode', 200, 30);
    metrics.request('/encode', 429, 0.1);
    metrics.request('/score', 200, 5);
    metrics.request('/score', 429, 1, true);
    metrics.error('EMB_QUEUE_FULL');
    metrics.texts({ textCount: 3, tokenCount: 40, truncatedCount: 1 });
    const sample = parseScrape(await metrics.text());
    expect(sample.get('bge_encoder_requests_total{route="/encode",status="200"}')).toBe(2);
    expect(sample.get('bge_encoder_requests_total{route="/encode",status="429"}')).toBe(1);
    expect(sample.get('bge_encoder_requests_total{route="/score",status="200"}')).toBe(1);
    expect(sample.get('bge_encoder_request_duration_seconds_sum{route="/encode"}')).toBeCloseTo(
      0.0421,
      10,
    );
    expect(sample.get('bge_encoder_requests_total{route="/score",status="429"}')).toBe(1);
    expect(sample.get('bge_encoder_background_requests_total{status="429"}')).toBe(1);
    expect(sample.get('bge_encoder_background_requests_total{status="200"}')).toBe(0);
    const seconds = 'bge_encoder_request_duration_seconds_sum';
    expect(sample.get(`${seconds}{route="/score"}`)).toBe(0.005);
    expect(sample.get(`${seconds}{route="background"}`)).toBe(0.001);
    expect(sample.get('bge_encoder_errors_total{code="EMB_QUEUE_FULL"}')).toBe(1);
    expect(sample.get('bge_encoder_errors_total{code="EMB_INTERNAL"}')).toBe(0);
    expect(sample.get('bge_encoder_texts_total')).toBe(3);
    expect(sample.get('bge_encoder_tokens_total')).toBe(40);
    expect(sample.get('bge_encoder_truncated_texts_total')).toBe(1);
  });

  test('padding is what batches carry beyond their tokens', async () => {
    const metrics = createMetrics();
    const shape = { textCount: 4, computedTokenCount: 64, tokenCount: 50, inferMs: 8 };
    metrics.batch({ ...shape, error: undefined, rescueCallCount: 0 });
    metrics.batch({ ...shape, error: { code: 'EMB_BACKEND_FAILED' }, rescueCallCount: 3 });
    const sample = parseScrape(await metrics.text());
    expect(sample.get('bge_encoder_batch_padded_tokens_total')).toBe(128);
    expect(sample.get('bge_encoder_batch_tokens_total')).toBe(100);
    expect(sample.get('bge_encoder_batches_total{outcome="ok"}')).toBe(1);
    expect(sample.get('bge_encoder_batches_total{outcome="EMB_BACKEND_FAILED"}')).toBe(1);
    expect(sample.get('bge_encoder_batch_rescue_calls_total')).toBe(3);
    expect(sample.get('bge_encoder_batch_texts_bucket{le="2"}')).toBe(0);
    expect(sample.get('bge_encoder_batch_texts_bucket{le="4"}')).toBe(2);
  });

  test('gauges are read when they are scraped', async () => {
    const metrics = createMetrics();
    let value = 1;
    metrics.gauge({ name: 'depth', help: 'A depth.' }, () => value);
    metrics.gauges({ name: 'up', help: 'Up.', label: 'endpoint' }, () => [['http://a:1', value]]);
    value = 7;
    const sample = parseScrape(await metrics.text());
    expect(sample.get('depth')).toBe(7);
    expect(sample.get('up{endpoint="http://a:1"}')).toBe(7);
  });

  test('a worker that died is counted by its kind, and still logged', async () => {
    const metrics = createMetrics();
    const lines: string[] = [];
    const inner = createLog({ level: 'debug', write: (line) => lines.push(line) });
    const log = metrics.counting(inner);
    log.error('worker-died', { worker: 'tokenizer-1' });
    log.error('worker-died', { worker: 'tokenizer-0' });
    log.error('something-else', { worker: 'inference-0' });
    const sample = parseScrape(await metrics.text());
    expect(sample.get('bge_encoder_worker_restarts_total{kind="tokenizer"}')).toBe(2);
    expect(sample.get('bge_encoder_worker_restarts_total{kind="inference"}')).toBe(0);
    expect(lines).toHaveLength(3);
    expect(metrics.counting(SILENT)).not.toBe(SILENT);
  });

  test('two servers in one process count apart', async () => {
    const [one, other] = [createMetrics(), createMetrics()];
    one.texts({ textCount: 1, tokenCount: 1, truncatedCount: 0 });
    expect(parseScrape(await other.text()).get('bge_encoder_texts_total')).toBe(0);
  });
});
