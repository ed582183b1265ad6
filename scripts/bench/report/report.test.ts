import { expect, test } from 'bun:test';
import type { Latencies } from '../load/load-plan.ts';
import type { BenchReport, LoadPoint } from './bench-report.ts';
import { compareReports } from './compare.ts';
import { htmlReport } from './html-report.ts';
import { reportTables, short } from './text-table.ts';

function latencies(p50: number): Latencies {
  return { count: 100, mean: p50, p50, p90: 2 * p50, p99: 3 * p50, p999: 4 * p50, max: 5 * p50 };
}

function point(options: { label: string; rate: number; p50: number }): LoadPoint {
  const { label, rate, p50 } = options;
  const isOpen = label.startsWith('poisson');
  return {
    label,
    arrival: isOpen
      ? { kind: 'poisson', requestsPerSecond: rate }
      : { kind: 'closed', connectionCount: Number(label.split(' ')[0]) },
    result: {
      measuredMs: 2000,
      requestCount: 2 * rate,
      textCount: 2 * rate,
      tokenCount: 20 * rate,
      latencies: { all: latencies(p50) },
      stages: { infer: latencies(1), reply: latencies(0.5) },
      sendLag: isOpen ? latencies(0.1) : null,
      wrong: { count: 0, samples: [] },
      failed: { count: 0, samples: [] },
      cpuMs: { server: rate / 5, load: rate / 50 },
      threadCpuMs: { main: rate / 10, tokenizer: rate / 20 },
    },
    residentBytes: 1e8,
    batches: [
      [1, 10],
      [8, 5],
    ],
  };
}

function report(speed: number): BenchReport {
  return {
    version: 1,
    startedAt: '2026-01-01T00:00:00.000Z',
    commit: { id: 'abc', isDirty: true },
    machine: {
      processor: 'A <fast> one',
      coreCount: 2,
      memoryBytes: 2 ** 33,
      system: 'Linux',
      bun: '1',
      loadBefore: 0,
    },
    settings: { seed: 1 },
    micro: [{ group: 'g', name: 'n', per: 'text', p50Us: 2 / speed, p99Us: 3, sampleCount: 9 }],
    scenarios: [
      {
        name: 'one',
        about: 'About it.',
        profileDir: null,
        loads: [
          point({ label: '1 connection', rate: 500 * speed, p50: 2 / speed }),
          point({ label: '32 connections', rate: 1000 * speed, p50: 32 / speed }),
          point({ label: 'poisson at 50 %', rate: 500, p50: 3 / speed }),
          point({ label: 'poisson at 85 %', rate: 850, p50: 9 / speed }),
        ],
      },
    ],
  };
}

test('the table gives rate, latency, batch and processor time of each load', () => {
  const line = reportTables(report(1))
    .split('\n')
    .find((row) => row.startsWith('32 connections'));
  expect(line?.split(/ {2,}/)).toEqual([
    '32 connections',
    '1000',
    '1000',
    '32.0',
    '64.0',
    '96.0',
    '128',
    '-',
    '3.33',
    '100',
    '-',
    '10.0',
  ]);
});

test('the threads of the busiest closed load are told apart', () => {
  const text = reportTables(report(1));
  expect(text).toContain(
    '32 connections, server µs a request by thread: main 50.0, tokenizer 25.0',
  );
});

test('the page stands alone, and nothing in it is taken for markup', () => {
  const page = htmlReport(report(1));
  expect(page).not.toMatch(/(src|href)=|https?:\/\/|<script|<link|@import/);
  expect(page).toContain('A &lt;fast&gt; one');
  for (const title of ['Latency against rate', 'Throughput against', 'Batches with 32']) {
    expect(page).toContain(title);
  }
  expect(page).toContain('infer 1.00 ms');
  expect(page).not.toMatch(/NaN|undefined|Infinity/);
});

test('the comparison says what changed, and what makes it doubtful', () => {
  const now = { ...report(2), settings: { seed: 2 } };
  const text = compareReports({ earlier: report(1), now });
  expect(text).toMatch(/g: n, p50 µs +2\.00 +1\.00 +-50\.0 %/);
  expect(text).toMatch(/one, 32 connections, requests\/s +1000 +2000 +\+100\.0 %/);
  expect(text).toMatch(/one, poisson at 85 %, p99 ms +27\.0 +13\.5 +-50\.0 %/);
  expect(text).toContain('note: setting seed was 1, is 2');
});

test('numbers keep three digits that count', () => {
  expect([0, 0.01234, 0.5, 1.234, 12.34, 123.4, 12_345, null].map(short)).toEqual([
    '0',
    '0.012',
    '0.500',
    '1.23',
    '12.3',
    '123',
    '12345',
    '-',
  ]);
});
