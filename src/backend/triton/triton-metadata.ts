import type { TritonSignature } from './triton-wire.ts';

/** What the server's manifest says of the model that Triton should be serving. */
export interface ExpectedModel {
  readonly dimension: number;
  readonly padId: number;
  /** Name of the dense output, when the manifest gives one. */
  readonly denseOutput: string | undefined;
}

/** A model as Triton describes it. */
export interface TritonModel {
  readonly signature: TritonSignature;
  /** `max_batch_size`; 0 there means no limit, and is `Infinity` here. */
  readonly batchTextsMax: number;
}

interface TensorMetadata {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly (number | string)[];
}

/** Names that published BGE-M3 graphs give to the pooled vector, tried when the manifest's is not there. */
const DENSE_NAMES = ['dense_vecs', 'sentence_embedding', 'dense', 'embeddings', 'embedding'];

/**
 * Reads names, datatypes and sizes from `GET /v2/models/{model}` and `/config`.
 *
 * @throws Error with a sentence for the operator when the model is not one that this server can use.
 */
export function readTritonModel(
  metadata: unknown,
  config: unknown,
  expected: ExpectedModel,
): TritonModel {
  const { inputs, outputs } = metadata as {
    inputs?: readonly TensorMetadata[];
    outputs?: readonly TensorMetadata[];
  };
  if (!Array.isArray(inputs) || !Array.isArray(outputs)) {
    throw new Error('Triton describes no inputs and outputs of the model.');
  }
  const ids = inputs.find((input) => /ids/i.test(input.name));
  const mask = inputs.find((input) => /mask/i.test(input.name));
  const names = inputs.map((input) => `${input.name} ${input.datatype}`).join(', ');
  if (ids === undefined || mask === undefined || inputs.length !== 2) {
    throw new Error(`The model takes ${names}; it should take token ids and an attention mask.`);
  }
  const { datatype } = ids;
  if ((datatype !== 'INT64' && datatype !== 'INT32') || mask.datatype !== datatype) {
    throw new Error(`The model takes ${names}; both should be INT64, or both INT32.`);
  }
  const dense = findDense(outputs, expected);
  const maxBatch = Number((config as { max_batch_size?: unknown }).max_batch_size ?? 0);
  return {
    signature: {
      idsInput: ids.name,
      maskInput: mask.name,
      inputDatatype: datatype,
      denseOutput: dense.name,
      dimension: expected.dimension,
      padId: expected.padId,
    },
    batchTextsMax: maxBatch > 0 ? maxBatch : Number.POSITIVE_INFINITY,
  };
}

function findDense(outputs: readonly TensorMetadata[], expected: ExpectedModel): TensorMetadata {
  const named = [expected.denseOutput, ...DENSE_NAMES]
    .map((name) => outputs.find((output) => output.name === name))
    .find((output) => output !== undefined);
  const dense = named ?? (outputs.length === 1 ? outputs[0] : undefined);
  const found = outputs.map((output) => output.name).join(', ');
  if (dense === undefined) {
    throw new Error(`None of the model's outputs (${found}) is known as the dense vector.`);
  }
  if (dense.datatype !== 'FP32') {
    throw new Error(`Output ${dense.name} is ${dense.datatype}; it should be FP32.`);
  }
  const dimension = Number(dense.shape.at(-1));
  if (dimension !== -1 && dimension !== expected.dimension) {
    throw new Error(
      `Output ${dense.name} has ${dimension} dimensions, the manifest says ${expected.dimension}: ` +
        'this is another model.',
    );
  }
  return dense;
}
