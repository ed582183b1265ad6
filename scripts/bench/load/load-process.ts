import { runChild } from '../run-child.ts';
import type { LoadMessage, LoadPlan, LoadResult } from './load-plan.ts';

/** Past warm-up, measuring and the deadline of the last request, the load process hangs. */
const GRACE_MS = 20_000;

/**
 * Runs one load in a process of its own.
 *
 * @param plan borrowed.
 * @throws Error when the load process fails or hangs; it is ended then.
 */
export function applyLoad(
  plan: LoadPlan,
  onProgress?: (progress: { elapsedMs: number; replyCount: number }) => void,
): Promise<LoadResult> {
  return runChild<LoadMessage, LoadResult>({
    name: 'The load process',
    script: `${import.meta.dir}/load-generator.ts`,
    plan,
    msMax: plan.warmUpMs + plan.measureMs + plan.timeoutMs + GRACE_MS,
    onMessage(message, { resolve, reject }) {
      if ('result' in message) resolve(message.result);
      else if ('failure' in message)
        reject(new Error(`The load process failed: ${message.failure}`));
      else onProgress?.(message.progress);
    },
  });
}
