import type { BarePlan, BareResult } from './bare-plan.ts';

/** Loading a model takes seconds on a busy machine; a long text a fraction of one. */
const GRACE_MS = 120_000;

/**
 * Runs ONNX Runtime without a server, in a process of its own: texts tokenized beforehand, no
 * queue, no HTTP.
 *
 * @throws Error when the process fails or hangs; it is ended then.
 */
export async function runBare(plan: BarePlan): Promise<BareResult> {
  const { promise, resolve, reject } = Promise.withResolvers<BareResult>();
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/bare-run.ts`], {
    stdio: ['ignore', 'inherit', 'inherit'],
    serialization: 'advanced',
    // The runtime would otherwise report to its maker.
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
    ipc: (message: BareResult) => resolve(message),
    onExit: (_child, status) => reject(new Error(`The bare run ended with ${status}.`)),
  });
  const msMax = plan.warmUpMs + plan.measureMs + GRACE_MS;
  const deadline = setTimeout(
    () => reject(new Error(`The bare run did not end within ${msMax} ms.`)),
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
