/**
 * A thread of the bare run: ONNX Runtime and nothing else. It shares no code with the server's
 * inference worker.
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { BareThreadPlan, BareThreadResult } from './run-bare.ts';

declare const self: Worker;

self.onmessage = async (event: MessageEvent<BareThreadPlan>) => {
  const plan = event.data;
  const session = await InferenceSession.create(plan.modelPath, {
    intraOpNumThreads: plan.threadCount,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const inputs = plan.texts.map((ids) => feedsOf(session, ids));
  const run = async (index: number): Promise<Float32Array> => {
    const results = await session.run(inputs[index], [plan.output]);
    return results[plan.output].data as Float32Array;
  };
  self.postMessage(plan.measureMs === 0 ? await rowsOf(plan, run) : await timesOf(plan, run));
};

function feedsOf(session: InferenceSession, ids: readonly number[]): Record<string, Tensor> {
  const shape = [1, ids.length];
  const feeds: Record<string, Tensor> = {
    input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), shape),
  };
  if (session.inputNames.includes('attention_mask')) {
    feeds.attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), shape);
  }
  return feeds;
}

type Run = (index: number) => Promise<Float32Array>;

/** Every text once. */
async function rowsOf({ texts }: BareThreadPlan, run: Run): Promise<BareThreadResult> {
  const rows: Float32Array[] = [];
  for (let index = 0; index < texts.length; index++) rows.push(new Float32Array(await run(index)));
  return { textCount: rows.length, times: new Float64Array(), rows };
}

/** Texts in turn with the other threads until the time is over. */
async function timesOf(plan: BareThreadPlan, run: Run): Promise<BareThreadResult> {
  const next = new Int32Array(plan.next);
  const times: number[] = [];
  const startMs = performance.now();
  const fromMs = startMs + plan.warmUpMs;
  const toMs = fromMs + plan.measureMs;
  for (;;) {
    const beginMs = performance.now();
    await run(Atomics.add(next, 0, 1) % plan.texts.length);
    const endMs = performance.now();
    if (endMs >= toMs) break;
    if (endMs >= fromMs) times.push(endMs - beginMs);
  }
  return { textCount: times.length, times: Float64Array.from(times), rows: [] };
}
