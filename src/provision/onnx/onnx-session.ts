import { InferenceSession, Tensor } from 'onnxruntime-node';
import { disableRuntimeTelemetry } from '../../backend/local/runtime-telemetry.ts';
import { invariant } from '../../base/errors.ts';
import { demand } from '../provision-error.ts';

/** What one output of the model answered for a batch. */
export interface ModelOutput {
  readonly dims: readonly number[];
  /** Row major; owned by the caller. */
  readonly values: Float32Array;
}

/**
 * Something that runs token ids through a model: ONNX Runtime here, an engine behind Triton
 * elsewhere.
 */
export interface ModelRunner {
  /**
   * Runs a batch. Shorter texts are padded to the longest, or to `tokenCount` when that is given.
   *
   * @param texts token ids of each text; borrowed.
   */
  run(
    texts: readonly (readonly number[])[],
    tokenCount?: number,
  ): Promise<Map<string, ModelOutput>>;
  close(): Promise<void>;
}

/** `<pad>` of XLM-RoBERTa. */
const PAD_ID = 1n;

/**
 * The padded inputs of a batch: ids and mask, `[texts.length, tokenCount]`; owned by the caller.
 */
export function padBatch(texts: readonly (readonly number[])[], tokenCount?: number) {
  const width = tokenCount ?? Math.max(...texts.map((ids) => ids.length));
  const ids = new BigInt64Array(texts.length * width).fill(PAD_ID);
  const mask = new BigInt64Array(texts.length * width);
  texts.forEach((text, row) => {
    invariant(text.length <= width, 'A text is longer than its batch.');
    text.forEach((id, column) => {
      ids[row * width + column] = BigInt(id);
      mask[row * width + column] = 1n;
    });
  });
  return { ids, mask, dims: [texts.length, width] };
}

/**
 * Loads an ONNX model on the CPU, for checks: nothing here is fast.
 *
 * @throws ProvisionError when ONNX Runtime refuses the model; its words are in the message.
 */
export async function createOnnxSession(path: string): Promise<ModelRunner> {
  let session: InferenceSession;
  try {
    disableRuntimeTelemetry();
    session = await InferenceSession.create(path, {
      executionProviders: ['cpu'],
      // A model that is loaded to be checked runs a few texts: an arena would only hold on to its
      // largest moment.
      enableCpuMemArena: false,
      enableMemPattern: false,
      logSeverityLevel: 3,
    });
  } catch (error) {
    demand(
      false,
      `ONNX Runtime refuses ${path}: ${error instanceof Error ? error.message : error}`,
    );
  }
  return {
    async run(texts, tokenCount) {
      const { ids, mask, dims } = padBatch(texts, tokenCount);
      const answer = await session.run({
        input_ids: new Tensor('int64', ids, dims),
        attention_mask: new Tensor('int64', mask, dims),
      });
      const outputs = new Map<string, ModelOutput>();
      for (const [name, tensor] of Object.entries(answer)) {
        demand(tensor.data instanceof Float32Array, `Output ${name} of ${path} is not float32.`);
        outputs.set(name, { dims: tensor.dims, values: tensor.data });
      }
      return outputs;
    },
    close: () => session.release(),
  };
}
