import { expect, test } from 'bun:test';
import { createMetrics } from '../../observe/metrics.ts';
import { sumMetrics } from './number-gathering.ts';
import { parseFromProcess, parseFromSupervisor } from './process-protocol.ts';

test('what a process counts passes the check, and may be summed', async () => {
  const metrics = createMetrics();
  metrics.texts({ textCount: 3, tokenCount: 5, truncatedCount: 0 });
  const message = { kind: 'numbers', id: 1, metrics: await metrics.numbers() };
  // As the channel copies it.
  const parsed = parseFromProcess(structuredClone(message));
  if (parsed?.kind !== 'numbers') throw new Error('it was refused');
  const alone = await sumMetrics([parsed.metrics]);
  expect(alone).toContain('bge_encoder_texts_total 3\n');
  // What the library would leave out, or hide by a mean.
  expect(alone).toContain('process_start_time_seconds');
  expect(parsed.metrics.find(({ aggregator }) => aggregator === 'average')).toBeDefined();
});

test('a lag is that of the slowest process, its start that of the oldest', async () => {
  const gauge = (name: string, aggregator: string, value: number) => [
    { name, help: 'It.', type: 'gauge', aggregator, values: [{ labels: {}, value }] },
  ];
  const lags = [1, 9].map((value) => gauge('lag', 'average', value));
  expect(await sumMetrics(lags)).toContain('lag 9\n');
  const starts = [8, 7].map((value) => gauge('process_start_time_seconds', 'omit', value));
  expect(await sumMetrics(starts)).toContain('process_start_time_seconds 7\n');
});

test.each([
  undefined,
  null,
  'started',
  {},
  { kind: 'stop' },
  { kind: 'listening' },
  { kind: 'scrape', id: '1' },
  { kind: 'numbers', id: 1, metrics: {} },
  { kind: 'numbers', id: 1, metrics: [{ name: 'a' }] },
  {
    kind: 'numbers',
    id: 1,
    metrics: [{ name: 'a', help: '', type: 'gauge', aggregator: 'sum', values: [{ value: 1 }] }],
  },
])('%j is nothing that a process says', (value) => {
  expect(parseFromProcess(value)).toBeUndefined();
});

test.each([null, 7, { kind: 'count' }, { kind: 'scraped', id: 1 }, { kind: 'started' }])(
  '%j is nothing that a supervisor says',
  (value) => {
    expect(parseFromSupervisor(value)).toBeUndefined();
  },
);
