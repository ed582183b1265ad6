import { existsSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { InferenceFacts, InferenceGreeting, InferenceJob } from './inference-protocol.ts';

/** Runs a model on the thread that calls it: `run` blocks that thread for as long as it computes. */
export interface InferenceEngine {
  readonly facts: InferenceFacts;
  /** @returns `[textCount, dimension]`, owned by the caller. */
  run(job: InferenceJob): Promise<Float32Array<ArrayBuffer>>;
}

/** Names that published graphs give to the pooled, normalised vector. */
const DENSE_NAMES = ['sentence_embedding', 'dense_vecs', 'dense', 'embeddings'];

/**
 * Loads a graph with inputs `input_ids` and `attention_mask`, int64 `[batch, sequence]`, and a pooled float32 output
 * `[batch, dimension]`.
 */
export async function loadInferenceEngine(greeting: InferenceGreeting): Promise<InferenceEngine> {
  const { modelPath, dimension } = greeting;
  if (!existsSync(modelPath)) throw new Error(`${modelPath} is missing; run ./run.sh to fetch it`);
  const session = await InferenceSession.create(modelPath, {
    intraOpNumThreads: greeting.threadCount,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  });
  const wanted = greeting.denseOutput === undefined ? DENSE_NAMES : [greeting.denseOutput];
  const denseOutput = wanted.find((name) => session.outputNames.includes(name));
  if (denseOutput === undefined) {
    const found = session.outputNames.join(', ');
    throw new Error(`${modelPath} has none of the outputs ${wanted.join(', ')}, only ${found}`);
  }

  async function run(job: InferenceJob): Promise<Float32Array<ArrayBuffer>> {
    const shape = [job.textCount, job.paddedLength];
    const feeds = {
      input_ids: new Tensor('int64', new BigInt64Array(job.ids.buffer), shape),
      attention_mask: new Tensor('int64', new BigInt64Array(job.mask.buffer), shape),
    };
    const outputs = await session.run(feeds, [denseOutput as string]);
    const output = outputs[denseOutput as string];
    const [rowCount, columnCount] = output.dims;
    if (output.dims.length !== 2 || rowCount !== job.textCount || columnCount !== dimension) {
      throw new Error(
        `${denseOutput} has shape [${output.dims}], not [${job.textCount},${dimension}]`,
      );
    }
    // The one copy: what ONNX Runtime hands out is its own memory and cannot be transferred.
    return new Float32Array(output.data as Float32Array);
  }

  return { facts: { denseOutput }, run };
}
