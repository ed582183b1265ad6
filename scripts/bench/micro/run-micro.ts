import { addReplyTasks } from '../reply-bench.ts';
import type { MicroResult } from '../report/bench-report.ts';
import { say } from '../run-script.ts';
import { admissionTasks } from './admission-bench.ts';
import { batchingTasks } from './batching-bench.ts';
import { framingTasks } from './framing-bench.ts';
import { type MicroGroup, measureAdded, measureTasks } from './micro-task.ts';
import { tokenizingTasks } from './tokenizing-bench.ts';
import { workerTasks } from './worker-bench.ts';

/**
 * Every micro-benchmark, group by group: one group's workers are gone before the next one starts.
 */
export async function runMicro(options: {
  modelsDir: string;
  timeMs: number;
}): Promise<readonly MicroResult[]> {
  const groups: readonly (() => MicroGroup | Promise<MicroGroup>)[] = [
    batchingTasks,
    framingTasks,
    admissionTasks,
    () => tokenizingTasks(options.modelsDir),
    () => workerTasks(options.modelsDir),
  ];
  const results: MicroResult[] = [];
  for (const createGroup of groups) {
    const group = await createGroup();
    say(`micro-benchmarks: ${group.tasks[0].group}`);
    try {
      results.push(...(await measureTasks(group.tasks, options.timeMs)));
    } finally {
      await group.close();
    }
  }
  say('micro-benchmarks: reply');
  results.push(...(await measureAdded('reply', addReplyTasks, options.timeMs)));
  return results;
}
