import { describe, expect, test } from 'bun:test';
import type { MetricNumbers } from '../../observe/metric-book.ts';
import { parseScrape } from '../../testing/scraped-metrics.ts';
import { CRASH, type PlayedProcess, playRunning } from '../../testing/supervisor-harness.ts';

/**
 * What a scrape of one process tells of all.
 *
 * Faults that were planted by hand, and that this suite caught: what the dead counted
 * forgotten, gauges of a silent one summed, a turn for each who asks.
 */

describe('a scrape', () => {
  const numbersOf = (total: number, depth: number): MetricNumbers[] => {
    const common = { help: 'Some.', aggregator: 'sum' };
    const valued = (value: number) => [{ labels: {}, value }];
    return [
      { ...common, name: 'total', type: 'counter', values: valued(total) },
      { ...common, name: 'depth', type: 'gauge', values: valued(depth) },
      { ...common, name: 'age', type: 'gauge', aggregator: 'max', values: valued(depth) },
    ];
  };

  /** Answers each question that the process has not answered yet. */
  const answer = (from: PlayedProcess, total: number, depth: number): void => {
    for (const message of from.received.splice(0)) {
      if (message.kind !== 'count') continue;
      from.say({ kind: 'numbers', id: message.id, metrics: numbersOf(total, depth) });
    }
  };

  const scrapedBy = ({ received }: PlayedProcess) => {
    const message = received.find(({ kind }) => kind === 'scraped');
    return message?.kind === 'scraped' ? parseScrape(message.text) : undefined;
  };

  test('sums what all say, and answers who asked', async () => {
    const { clock, processes } = playRunning();
    const [first, second] = processes;
    first.say({ kind: 'scrape', id: 5 });
    answer(first, 10, 1);
    await clock.settle();
    expect(scrapedBy(first)).toBeUndefined();
    answer(second, 20, 4);
    await clock.settle();
    expect(first.received).toMatchObject([{ kind: 'scraped', id: 5 }]);
    expect(second.received).toEqual([]);
    const sums = scrapedBy(first);
    expect([sums?.get('total'), sums?.get('depth'), sums?.get('age')]).toEqual([30, 5, 4]);
    expect(sums?.get('bge_encoder_processes')).toBe(2);
  });

  test('goes on without the gauges of one that is silent, and with its counters', async () => {
    const { clock, processes } = playRunning();
    const [first, second] = processes;
    for (const [round, seconds] of [0, 2].entries()) {
      first.received.splice(0);
      first.say({ kind: 'scrape', id: round });
      answer(first, 10, 1);
      if (round === 0) answer(second, 20, 4);
      await clock.advance(seconds * 1000);
    }
    const sums = scrapedBy(first);
    expect([sums?.get('total'), sums?.get('depth'), sums?.get('age')]).toEqual([30, 1, 1]);
    expect(sums?.get('bge_encoder_processes')).toBe(1);
    expect(sums?.get('bge_encoder_processes_configured')).toBe(2);
  });

  test('keeps what the dead had counted, once, and waits for none of them', async () => {
    const { clock, processes } = playRunning();
    processes[0].say({ kind: 'scrape', id: 0 });
    answer(processes[0], 10, 1);
    answer(processes[1], 20, 4);
    await clock.settle();
    for (let death = 1; death <= 3; death++) {
      processes[0].received.splice(0);
      processes[0].say({ kind: 'scrape', id: death });
      processes.at(-1)?.end(CRASH);
      await clock.advance(0);
      processes.at(-1)?.starts();
      answer(processes[0], 10, 1);
      await clock.settle();
      expect(scrapedBy(processes[0])?.get('total')).toBe(30);
      expect(scrapedBy(processes[0])?.get('bge_encoder_process_restarts_total')).toBe(death);
    }
  });

  test('who asks while others are served shares the next turn, however many ask', async () => {
    const { clock, processes } = playRunning();
    const [first, second] = processes;
    for (let id = 0; id < 50; id++) first.say({ kind: 'scrape', id });
    expect(second.received).toHaveLength(1);
    answer(first, 1, 1);
    answer(second, 1, 1);
    await clock.settle();
    expect(second.received).toHaveLength(1);
    const answersBefore = first.received.filter(({ kind }) => kind === 'scraped').length;
    expect(answersBefore).toBe(1);
    first.say({ kind: 'numbers', id: 2, metrics: numbersOf(2, 1) });
    answer(second, 2, 1);
    await clock.settle();
    expect(first.received.filter(({ kind }) => kind === 'scraped')).toHaveLength(50);
  });
});
