import { openCallScope } from './call-scope.ts';
import type { ClientClock } from './client-clock.ts';

/**
 * Starts `attempt`, and once more when `hedgeAfterMs` have gone by without an answer. The first
 * success counts and the other attempt is aborted; a failure counts when nothing else is running.
 * An attempt that fails early is not hedged: that is what retries are for.
 */
export async function hedge<Result>(options: {
  clock: ClientClock;
  hedgeAfterMs: number;
  signal: AbortSignal;
  attempt: (signal: AbortSignal) => Promise<Result>;
}): Promise<Result> {
  const { clock, hedgeAfterMs, signal, attempt } = options;
  const scope = openCallScope({ clock, parent: signal });
  let cancelTimer = (): void => {};
  let runningCount = 0;
  try {
    return await new Promise<Result>((resolve, reject) => {
      const start = (): void => {
        runningCount++;
        attempt(scope.signal).then(resolve, (error: unknown) => {
          runningCount--;
          if (runningCount === 0) reject(error);
        });
      };
      start();
      cancelTimer = clock.schedule(hedgeAfterMs, start);
    });
  } finally {
    cancelTimer();
    scope.end(new Error('The other attempt was faster.'));
    scope.release();
  }
}
