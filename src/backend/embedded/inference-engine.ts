import { existsSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Head } from '../backend.ts';
import type {
  InferenceFacts,
  InferenceGreeting,
  InferenceJob,
  InferenceOutputs,
} from './inference-protocol.ts';
import { disableRuntimeTelemetry } from './runtime-telemetry.ts';

/** Runs a model on the thread that calls it: `run` blocks that thread for as long as it computes. */
export interface InferenceEngine {
  readonly facts: InferenceFacts;
  /** @returns one array for each head of the job, owned by the caller. */
  run(job: InferenceJob): Promise<InferenceOutputs>;
  /** Gives the model's memory back. */
  release(): Promise<void>;
}

/**
 * Loads a graph with inputs `input_ids` and `attention_mask`, int64 `[batch, sequence]`, and float32 outputs of the names
 * that the manifest gives.
 */
export async function loadInferenceEngine(greeting: InferenceGreeting): Promise<InferenceEngine> {
  const { modelPath, outputs } = greeting;
  if (!existsSync(modelPath)) throw new Error(`${modelPath} is missing; run ./run.sh to fetch it`);
  disableRuntimeTelemetry();
  const session = await InferenceSession.create(modelPath, {
    intraOpNumThreads: greeting.threadCount,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  });
  const missing = Object.values(outputs).find((name) => !session.outputNames.includes(name));
  if (missing !== undefined) {
    throw new Error(
      `${modelPath} has no output ${missing}, only ${session.outputNames.join(', ')}`,
    );
  }

  function nameOf(head: Head): string {
    const name = outputs[head];
    if (name === undefined) throw new Error(`The manifest names no output for the head ${head}.`);
    return name;
  }

  async function run(job: InferenceJob): Promise<InferenceOutputs> {
    const shape = [job.textCount, job.paddedLength];
    const feeds = {
      input_ids: new Tensor('int64', new BigInt64Array(job.ids.buffer), shape),
      attention_mask: new Tensor('int64', new BigInt64Array(job.mask.buffer), shape),
    };
    const results = await session.run(feeds, job.heads.map(nameOf));
    const arrays: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
    for (const head of job.heads) {
      const { type, data } = results[nameOf(head)];
      if (type !== 'float32') throw new Error(`Output ${nameOf(head)} is ${type}, not float32.`);
      // The one copy: what ONNX Runtime hands out is its own memory and cannot be transferred.
      arrays[head] = new Float32Array(data as Float32Array);
    }
    return arrays;
  }

  const facts = { outputNames: session.outputNames };
  return { facts, run, release: () => session.release() };
}
