import { existsSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { type Head, valuesPerText } from '../../vectors/head.ts';
import type {
  InferenceFacts,
  InferenceGreeting,
  InferenceJob,
  InferenceOutputs,
} from './inference-protocol.ts';
import { disableRuntimeTelemetry } from './runtime-telemetry.ts';

/**
 * Runs a model on the thread that calls it: `run` blocks that thread for as long as it computes.
 */
export interface InferenceEngine {
  readonly facts: InferenceFacts;
  /** @returns one array for each head of the job, owned by the caller. */
  run(job: InferenceJob): Promise<InferenceOutputs>;
  /**
   * Loads the model a second time, over all cores, for texts that have the machine to themselves.
   * Both sessions give the same bits.
   */
  widen(): Promise<void>;
  /** Gives the model's memory back. */
  release(): Promise<void>;
}

/**
 * Loads a graph with an input `input_ids`, int64 `[batch, sequence]`, perhaps an `attention_mask`
 * of the same form, and float32 outputs of the names that the manifest gives.
 */
export async function loadInferenceEngine(greeting: InferenceGreeting): Promise<InferenceEngine> {
  const { modelPath, outputs } = greeting;
  if (!existsSync(modelPath)) throw new Error(`${modelPath} is missing; run ./run.sh to fetch it`);
  const session = await openSession(modelPath, greeting.threadCount);
  let wide: InferenceSession | undefined;
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

  const takesMask = session.inputNames.includes('attention_mask');

  async function runText(ids: BigInt64Array, job: InferenceJob): Promise<InferenceOutputs> {
    const shape = [1, ids.length];
    const feeds: Record<string, Tensor> = { input_ids: new Tensor('int64', ids, shape) };
    if (takesMask) {
      const mask = new BigInt64Array(ids.length).fill(1n);
      feeds.attention_mask = new Tensor('int64', mask, shape);
    }
    const chosen = job.isAlone && wide !== undefined ? wide : session;
    const results = await chosen.run(feeds, job.heads.map(nameOf));
    const arrays: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
    for (const head of job.heads) {
      const { type, data } = results[nameOf(head)];
      if (type !== 'float32') throw new Error(`Output ${nameOf(head)} is ${type}, not float32.`);
      // The one copy: what ONNX Runtime hands out is its own memory and cannot be transferred.
      arrays[head] = new Float32Array(data as Float32Array);
    }
    return arrays;
  }

  /** One text after the other, each without padding: none has neighbours that could change it. */
  async function run(job: InferenceJob): Promise<InferenceOutputs> {
    const ids = new BigInt64Array(job.ids.buffer);
    const parts: InferenceOutputs[] = [];
    let start = 0;
    for (const count of job.tokenCounts) {
      parts.push(await runText(ids.subarray(start, start + count), job));
      start += count;
    }
    return parts.length === 1 ? parts[0] : joinOutputs(job, parts, greeting.dimension);
  }

  const facts = { outputNames: session.outputNames };
  return {
    facts,
    run,
    async widen() {
      if (greeting.wideThreadCount === 0) return;
      wide = await openSession(modelPath, greeting.wideThreadCount);
    },
    async release() {
      await session.release();
      await wide?.release();
    },
  };
}

/** @param more options beyond those that every session has. */
export function openSession(
  modelPath: string,
  threadCount: number,
  more: InferenceSession.SessionOptions = {},
): Promise<InferenceSession> {
  disableRuntimeTelemetry();
  return InferenceSession.create(modelPath, {
    intraOpNumThreads: threadCount,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    ...more,
  });
}

/** Puts the outputs of texts that ran alone where a padded batch would have them. */
function joinOutputs(
  job: InferenceJob,
  parts: readonly InferenceOutputs[],
  dimension: number,
): InferenceOutputs {
  const paddedLength = Math.max(...job.tokenCounts);
  const joined: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
  for (const head of job.heads) {
    const each = valuesPerText(head, { dimension, paddedLength });
    const all = new Float32Array(each * parts.length);
    for (const [index, part] of parts.entries()) all.set(part[head] ?? [], index * each);
    joined[head] = all;
  }
  return joined;
}
