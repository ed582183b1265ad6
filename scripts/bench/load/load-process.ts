import type { LoadMessage, LoadPlan, LoadResult } from './load-plan.ts';

/** Past warm-up, measuring and the deadline of the last request, the load process hangs. */
const GRACE_MS = 20_000;

/**
 * Runs one load in a process of its own.
 *
 * @param plan borrowed.
 * @throws Error when the load process fails or hangs; it is ended then.
 */
export async function applyLoad(
  plan: LoadPlan,
  onProgress?: (progress: { elapsedMs: number; replyCount: number }) => void,
): Promise<LoadResult> {
  const { promise, resolve, reject } = Promise.withResolvers<LoadResult>();
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/load-generator.ts`], {
    stdio: ['ignore', 'inherit', 'inherit'],
    serialization: 'advanced',
    ipc(message: LoadMessage) {
      if ('result' in message) resolve(message.result);
      else if ('failure' in message)
        reject(new Error(`The load process failed: ${message.failure}`));
      else onProgress?.(message.progress);
    },
    onExit: (_child, status) => reject(new Error(`The load process ended with ${status}.`)),
  });
  const msMax = plan.warmUpMs + plan.measureMs + plan.timeoutMs + GRACE_MS;
  const deadline = setTimeout(
    () => reject(new Error(`The load process did not end within ${msMax} ms.`)),
    msMax,
  );
  try {
    child.send(plan);
    return await promise;
  } finally {
    clearTimeout(deadline);
    child.kill();
    await child.exited;
  }
}
