import type { Head } from '../../vectors/head.ts';
import type { TritonSignature } from './triton-wire.ts';

/** What the server's manifest says of the model that Triton should be serving. */
export interface ExpectedModel {
  readonly dimension: number;
  readonly padId: number;
  /**
   * The heads of the manifest. Triton's model must have the first; one that lacks another serves
   * without it.
   */
  readonly heads: readonly Head[];
  /** Names of the outputs, where the manifest gives them. */
  readonly outputs: { readonly [H in Head]?: string };
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

/** Names that published BGE-M3 graphs give to each head, tried when the manifest's is not there. */
const OUTPUT_NAMES: { readonly [H in Head]: readonly string[] } = {
  dense: ['dense_vecs', 'sentence_embedding', 'dense', 'embeddings', 'embedding'],
  sparse: ['sparse_vecs', 'sparse', 'token_weights'],
  multi_vector: ['colbert_vecs', 'multi_vector', 'colbert'],
};

/**
 * Reads names, datatypes and sizes from `GET /v2/models/{model}` and `/config`.
 *
 * @throws Error with a sentence for the operator when the model is not one that this server can
 * use.
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
  const mask = inputs.find((input) => /mask/i.test(input.name));
  const ids = inputs.find((input) => input !== mask && /ids/i.test(input.name));
  const names = inputs.map((input) => `${input.name} ${input.datatype}`).join(', ');
  if (ids === undefined || mask === undefined || inputs.length !== 2) {
    throw new Error(`The model takes ${names}; it should take token ids and an attention mask.`);
  }
  const { datatype } = ids;
  if ((datatype !== 'INT64' && datatype !== 'INT32') || mask.datatype !== datatype) {
    throw new Error(`The model takes ${names}; both should be INT64, or both INT32.`);
  }
  const found: { -readonly [H in Head]?: string } = {};
  for (const head of expected.heads) {
    const output = findOutput(head, outputs, expected);
    if (output !== undefined) found[head] = output.name;
  }
  if (found[expected.heads[0]] === undefined) {
    const given = outputs.map((output) => output.name).join(', ');
    throw new Error(
      `None of the model's outputs (${given}) is known as its ${expected.heads[0]} head.`,
    );
  }
  const maxBatch = Number((config as { max_batch_size?: unknown }).max_batch_size ?? 0);
  return {
    signature: {
      idsInput: ids.name,
      maskInput: mask.name,
      inputDatatype: datatype,
      outputs: found,
      dimension: expected.dimension,
      padId: expected.padId,
    },
    batchTextsMax: maxBatch > 0 ? maxBatch : Number.POSITIVE_INFINITY,
  };
}

function findOutput(
  head: Head,
  outputs: readonly TensorMetadata[],
  expected: ExpectedModel,
): TensorMetadata | undefined {
  const named = [expected.outputs[head], ...OUTPUT_NAMES[head]]
    .map((name) => outputs.find((candidate) => candidate.name === name))
    .find((candidate) => candidate !== undefined);
  const isOnly = head === 'dense' && outputs.length === 1;
  const output = named ?? (isOnly ? outputs[0] : undefined);
  if (output === undefined) return undefined;
  if (output.datatype !== 'FP32') {
    throw new Error(`Output ${output.name} is ${output.datatype}; it should be FP32.`);
  }
  const dimension = Number(output.shape.at(-1));
  if (head !== 'sparse' && dimension !== -1 && dimension !== expected.dimension) {
    throw new Error(
      `Output ${output.name} has ${dimension} dimensions, the manifest says ${expected.dimension}: ` +
        'this is another model.',
    );
  }
  return output;
}
