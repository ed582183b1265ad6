import { type ModelOutput, type ModelRunner, padBatch } from '../onnx/onnx-session.ts';
import { demand } from '../provision-error.ts';

/** A text of the gate takes milliseconds; the first one of an engine loads its kernels. */
const TIMEOUT_MS = 120_000;

interface ReplyOutput {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters?: { readonly binary_data_size?: number };
}

/**
 * Runs texts through a model that Triton serves. One request at a time and no retry: what fails
 * here should be seen.
 *
 * @param options.url Triton's HTTP address.
 * @param options.outputs the outputs to ask for.
 */
export function createTritonSession(options: {
  readonly url: string;
  readonly model: string;
  readonly outputs: readonly string[];
}): ModelRunner {
  const address = `${options.url}/v2/models/${options.model}/infer`;
  return {
    async run(texts, tokenCount) {
      const { ids, mask, dims } = padBatch(texts, tokenCount);
      const input = (name: string, values: BigInt64Array) => ({
        name,
        shape: dims,
        datatype: 'INT64',
        parameters: { binary_data_size: values.byteLength },
      });
      const head = new TextEncoder().encode(
        JSON.stringify({
          inputs: [input('input_ids', ids), input('attention_mask', mask)],
          outputs: options.outputs.map((name) => ({ name, parameters: { binary_data: true } })),
        }),
      );
      const response = await fetch(address, {
        method: 'POST',
        headers: {
          'inference-header-content-length': String(head.length),
          'content-type': 'application/octet-stream',
          'accept-encoding': 'identity',
        },
        body: new Blob([head, ids, mask]),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const bytes = new Uint8Array(await response.arrayBuffer());
      const words = () => new TextDecoder().decode(bytes.subarray(0, 500));
      demand(response.ok, `${address} answered ${response.status}: ${words()}`);
      const headLength = Number(response.headers.get('inference-header-content-length'));
      demand(headLength > 0, `${address} answered without binary outputs: ${words()}`);
      return decode(bytes, headLength);
    },
    close: async () => {},
  };
}

function decode(bytes: Uint8Array, headLength: number): Map<string, ModelOutput> {
  const head: { outputs: ReplyOutput[] } = JSON.parse(
    new TextDecoder().decode(bytes.subarray(0, headLength)),
  );
  const outputs = new Map<string, ModelOutput>();
  let at = headLength;
  for (const { name, datatype, shape, parameters } of head.outputs) {
    const size = parameters?.binary_data_size ?? 0;
    demand(datatype === 'FP32', `Output ${name} is ${datatype}, expected FP32.`);
    const count = shape.reduce((product, dim) => product * dim, 1);
    demand(size === count * 4, `Output ${name} has ${size} bytes for the shape [${shape}].`);
    demand(at + size <= bytes.length, `Output ${name} is cut short.`);
    outputs.set(name, { dims: shape, values: new Float32Array(bytes.slice(at, at + size).buffer) });
    at += size;
  }
  return outputs;
}
