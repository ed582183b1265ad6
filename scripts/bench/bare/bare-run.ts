/** The bare run's process: starts the threads, waits for them, adds up. */
import { latenciesOf } from '../load/latencies.ts';
import type { BarePlan, BareResult, BareThreadPlan, BareThreadResult } from './run-bare.ts';

process.on('message', async (plan: BarePlan) => {
  const next = new SharedArrayBuffer(4);
  const threads = Array.from({ length: plan.sessionCount }, (_, index) =>
    runThread({ ...plan, next, index }),
  );
  const results = await Promise.all(threads);
  const times = Float64Array.from(results.flatMap((result) => [...result.times]));
  const textCount = results.reduce((sum, result) => sum + result.textCount, 0);
  const result: BareResult = {
    textsPerSecond: plan.measureMs === 0 ? 0 : (textCount * 1000) / plan.measureMs,
    p50Ms: latenciesOf(times).p50,
    rows: results[0].rows,
  };
  process.send?.(result);
});
process.on('disconnect', () => process.exit(0));

function runThread(plan: BareThreadPlan): Promise<BareThreadResult> {
  const worker = new Worker(new URL('./bare-thread.ts', import.meta.url).href);
  return new Promise((resolve, reject) => {
    worker.onmessage = (event: MessageEvent<BareThreadResult>) => resolve(event.data);
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage(plan);
  });
}
