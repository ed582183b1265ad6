import type { MetricNumbers } from '../../observe/running-metric.ts';

/** What only the supervisor knows. */
export function ownNumbers(known: {
  answeredCount: number;
  restartCount: number;
  count: number;
}): readonly MetricNumbers[] {
  const { answeredCount, restartCount, count } = known;
  return [
    metric('gauge', 'processes', 'Server processes that these numbers are of.', answeredCount),
    metric('gauge', 'processes_configured', 'Server processes that there should be.', count),
    metric(
      'counter',
      'process_restarts_total',
      'Server processes that died; each is replaced, until it has died too often in a row.',
      restartCount,
    ),
  ];
}

function metric(type: string, name: string, help: string, value: number): MetricNumbers {
  const values = [{ labels: {}, value }];
  return { name: `bge_encoder_${name}`, help, type, aggregator: 'sum', values };
}
