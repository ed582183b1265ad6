import type { InferenceShutdown } from '../../../src/backend/local/inference-protocol.ts';

/**
 * Loaded before the server by the fault matrix: lets SIGUSR2 end a worker thread, which nothing
 * outside a process can. A worker that computes in a native addon is asked to end after that, since
 * terminating it would take the process along.
 */
const SHUTDOWN: InferenceShutdown = 'shutdown';

if (Bun.isMainThread) {
  const workers = new Map<string, Worker>();
  const Original = globalThis.Worker;
  globalThis.Worker = class extends Original {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      workers.set(options?.name ?? '', this);
    }
  } as typeof Worker;
  process.on('SIGUSR2', () => {
    for (const [name, worker] of workers) {
      if (name.startsWith('inference')) worker.postMessage(SHUTDOWN);
      else worker.terminate();
    }
  });
}
