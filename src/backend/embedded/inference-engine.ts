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

  async function runTogether(job: InferenceJob): Promise<InferenceOutputs> {
    const shape = [job.textCount, job.paddedLength];
    const feeds: Record<string, Tensor> = {
      input_ids: new Tensor('int64', new BigInt64Array(job.ids.buffer), shape),
    };
    if (takesMask) {
      const mask = new BigInt64Array(job.mask.buffer);
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

  /** A graph without a mask takes texts one at a time, each without its padding. */
  async function run(job: InferenceJob): Promise<InferenceOutputs> {
    if (takesMask) return runTogether(job);
    const alone = textsOf(job);
    if (alone.length === 1) return runTogether(alone[0]);
    const parts: InferenceOutputs[] = [];
    for (const text of alone) parts.push(await runTogether(text));
    return joinOutputs(job, parts);
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

function openSession(modelPath: string, threadCount: number): Promise<InferenceSession> {
  disableRuntimeTelemetry();
  return InferenceSession.create(modelPath, {
    intraOpNumThreads: threadCount,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  });
}

/** Each text of a padded batch as a batch of its own, without padding. */
function textsOf(job: InferenceJob): InferenceJob[] {
  const wordsPerRow = job.paddedLength * WORDS_PER_VALUE;
  return Array.from({ length: job.textCount }, (_, row) => {
    const start = row * wordsPerRow;
    const mask = job.mask.subarray(start, start + wordsPerRow);
    let tokenCount = 0;
    while (tokenCount < job.paddedLength && mask[tokenCount * WORDS_PER_VALUE] === 1) tokenCount++;
    const end = start + tokenCount * WORDS_PER_VALUE;
    const ids = job.ids.slice(start, end);
    return {
      ...job,
      textCount: 1,
      paddedLength: tokenCount,
      ids,
      mask: job.mask.slice(start, end),
    };
  });
}

/** An int64 is two 32-bit words. */
const WORDS_PER_VALUE = 2;

/** Puts the outputs of texts that ran alone where a padded batch would have them. */
function joinOutputs(job: InferenceJob, parts: readonly InferenceOutputs[]): InferenceOutputs {
  const joined: { -readonly [H in Head]?: Float32Array<ArrayBuffer> } = {};
  for (const head of job.heads) {
    const rows = parts.map((part) => part[head] ?? new Float32Array());
    if (head !== 'dense') throw new Error(`A graph without a mask gives no ${head} output.`);
    const dimension = rows[0].length;
    const all = new Float32Array(dimension * rows.length);
    rows.forEach((row, index) => {
      all.set(row, index * dimension);
    });
    joined[head] = all;
  }
  return joined;
}
