import { Bench } from 'tinybench';
import type { MicroResult } from '../report/bench-report.ts';

/** Something small to measure. */
export interface MicroTask {
  readonly group: string;
  readonly name: string;
  /** What one operation is: a text, a batch, a row. */
  readonly per: string;
  /**
   * Operations that one call does: enough for the clock to see, where one takes less than a few µs.
   */
  readonly operationCount: number;
  /** Does the operations. What it returns is dropped. */
  readonly run: () => unknown;
}

/** Some tasks, and what they hold. */
export interface MicroGroup {
  readonly tasks: readonly MicroTask[];
  close(): void | Promise<void>;
}

/**
 * Measures each task by tinybench, after a warm-up of a quarter of the time.
 *
 * @param timeMs for each task.
 */
export async function measureTasks(
  tasks: readonly MicroTask[],
  timeMs: number,
): Promise<readonly MicroResult[]> {
  const bench = new Bench({ time: timeMs, warmupTime: timeMs / 4, throws: true });
  for (const [index, task] of tasks.entries()) bench.add(String(index), task.run);
  await bench.run();
  return tasks.map(({ group, name, per, operationCount }, index) => {
    const result = bench.tasks[index]?.result;
    if (result?.state !== 'completed') throw new Error(`${group}: ${name} was not measured`);
    const { p50, p99, samplesCount } = result.latency;
    const us = (ms: number): number => (ms * 1000) / operationCount;
    return { group, name, per, p50Us: us(p50), p99Us: us(p99), sampleCount: samplesCount };
  });
}

/**
 * Measures tasks that another file has added to a tinybench bench; one operation is one call.
 *
 * @param timeMs for each task.
 */
export async function measureAdded(
  group: string,
  addTasks: (bench: Bench) => unknown,
  timeMs: number,
): Promise<readonly MicroResult[]> {
  const bench = new Bench({ time: timeMs, warmupTime: timeMs / 4, throws: true });
  await addTasks(bench);
  await bench.run();
  return bench.tasks.map(({ name, result }) => {
    if (result.state !== 'completed') throw new Error(`${group}: ${name} was not measured`);
    const { p50, p99, samplesCount: sampleCount } = result.latency;
    return { group, name, per: 'call', p50Us: p50 * 1000, p99Us: p99 * 1000, sampleCount };
  });
}
