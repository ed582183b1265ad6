import { type ProfileShape, parseProfiles } from '../../model/engine-profiles.ts';
import type { SelfCheck } from '../../model/engine-record.ts';
import { cosineOf } from '../../model/fidelity.ts';
import { faultOfRow, type Head, headSet } from '../../vectors/output.ts';
import type { BatchOutput } from '../contract.ts';
import {
  inferCallOf,
  inferOutputOf,
  refusalOf,
  type TritonReply,
  type TritonRequest,
} from './triton-call.ts';
import { encodeInferRequest, type TritonSignature } from './triton-wire.ts';

/** Text that proves an endpoint: `<s> </s>` of every XLM-R vocabulary. */
export const PROBE_IDS = Int32Array.of(0, 2);

/**
 * Reads the metadata and runs one real inference of every head, on fresh connections: an endpoint
 * is up only when both have worked, when the self-check, if there is one, has nothing against its
 * answer, and when the row is the one that the model is known by.
 *
 * @param options.knownEngine the one that is up there: it has passed the self-check.
 * @throws ServerError of the calls, or Error with a sentence for the operator.
 */
export async function probeModel(options: {
  modelUrl: string;
  expected: ExpectedModel;
  identity: ModelIdentity;
  selfCheck: SelfCheck | undefined;
  knownEngine: string | undefined;
  timeoutMs: number;
  call: (request: TritonRequest) => Promise<TritonReply>;
}): Promise<TritonModel> {
  const { modelUrl, expected, identity, selfCheck, timeoutMs, call } = options;
  const isFreshConnection = true;
  const getJson = async (address: string): Promise<unknown> => {
    const reply = await call({ address, isFreshConnection, timeoutMs });
    if (reply.status !== 200) throw refusalOf(reply);
    return JSON.parse(new TextDecoder().decode(reply.body));
  };
  const [metadata, config] = await Promise.all([getJson(modelUrl), getJson(`${modelUrl}/config`)]);
  const found = readTritonModel(metadata, config, expected);
  const { signature } = found;
  const { dimension } = expected;
  const heads = headSet(expected.heads.filter((head) => head in signature.outputs));
  const infer = (ids: Int32Array, wanted: readonly Head[]): Promise<BatchOutput> =>
    inferOnce({ ids, heads: wanted, modelUrl, signature, timeoutMs, call });
  const { dense } = await infer(PROBE_IDS, heads);
  if (dense === undefined) return found;
  const row = dense.values(0, dimension);
  const engine = engineOfRow(row);
  // First of all: an engine that fails it must not be what the others are held against.
  if (selfCheck !== undefined && engine !== options.knownEngine) {
    const checked = await infer(selfCheck.ids, headSet(['dense']));
    const difference = checked.dense && selfCheck.faultOf(checked.dense.values(0, dimension));
    if (difference !== undefined) throw new Error(difference);
  }
  const fault = identity.faultOf(row, dimension);
  if (fault !== undefined) throw new Error(fault);
  return { ...found, engine };
}

/** Numbers are rounded to so many parts of 1: engines of other precisions differ by more. */
const ROUNDED_TO = 1000;

/**
 * What a model is told by from one built anew: a Triton elsewhere names no file. One engine on one
 * kind of GPU gives the probe, alone in its batch, the same row each time.
 */
function engineOfRow(row: Float32Array): string {
  const rounded = Int32Array.from(row, (value) => Math.round(value * ROUNDED_TO));
  return `probe ${Bun.hash.xxHash64(rounded).toString(16).padStart(16, '0')}`;
}

/** Runs one text, on a fresh connection. */
async function inferOnce(options: {
  ids: Int32Array;
  heads: readonly Head[];
  modelUrl: string;
  signature: TritonSignature;
  timeoutMs: number;
  call: (request: TritonRequest) => Promise<TritonReply>;
}): Promise<BatchOutput> {
  const { ids, heads, modelUrl, signature, timeoutMs, call } = options;
  const batch = { texts: [ids], paddedLength: ids.length, heads };
  const request = encodeInferRequest(batch, signature, (bytes) => new ArrayBuffer(bytes));
  const reply = await call({
    ...inferCallOf(modelUrl, request),
    isFreshConnection: true,
    timeoutMs,
  });
  return inferOutputOf(reply, { signature, batch });
}

/**
 * How alike two rows of one text are when one model made them, as a cosine. Engines of one model in
 * float32, float16 and int8 stay above; another model's rows are anywhere.
 */
const COSINE_MIN = 0.98;

/**
 * Makes sure that all endpoints, and each of them after a restart, serve the model that the first
 * one served: names and sizes may agree while the weights do not, and vectors of two models must
 * never mix.
 */
export class ModelIdentity {
  #known: Float32Array | undefined;

  /**
   * @param row what the model gave to the probe; copied when it is the first. @returns what is
   * wrong, or nothing.
   */
  faultOf(row: Float32Array, dimension: number): string | undefined {
    const fault = faultOfRow(row, { dimension, isNormalized: false });
    if (fault !== undefined) return `its row ${fault}`;
    const known = this.#known;
    if (known === undefined) {
      this.#known = row.slice();
      return undefined;
    }
    const cosine = cosineOf(row, known);
    if (cosine >= COSINE_MIN) return undefined;
    return `it is another model: its row for one and the same text has a cosine of ${cosine.toFixed(4)} to the row known`;
  }
}

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
  /** The largest shapes of an engine's profiles; undefined when it does not tell. */
  readonly profiles: readonly ProfileShape[] | undefined;
  /** By its row for the probe; undefined until it has been asked. */
  readonly engine?: string;
}

/** What is read of `GET /v2/models/{model}/config`. */
interface TritonConfig {
  readonly max_batch_size?: unknown;
  readonly response_cache?: { readonly enable?: unknown };
  readonly parameters?: { readonly profiles?: { readonly string_value?: unknown } };
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
  const { max_batch_size, parameters, response_cache } = config as TritonConfig;
  const cachesResponses = response_cache?.enable === true;
  if (cachesResponses && Object.keys(found).length > 1) {
    throw new Error(
      "The model's configuration has response_cache { enable: true }. Triton's cache does not tell " +
        'heads apart: a text asked for one would get it when asked for another. Switch it off.',
    );
  }
  const maxBatch = Number(max_batch_size ?? 0);
  return {
    signature: {
      idsInput: ids.name,
      maskInput: mask.name,
      inputDatatype: datatype,
      outputs: found,
      dimension: expected.dimension,
      padId: expected.padId,
      ...(cachesResponses ? { cachesResponses } : {}),
    },
    batchTextsMax: maxBatch > 0 ? maxBatch : Number.POSITIVE_INFINITY,
    profiles: readProfiles(parameters?.profiles?.string_value),
  };
}

/**
 * The export writes them into the configuration, which Triton hands on: so they are known of a
 * Triton on another machine, too.
 */
function readProfiles(text: unknown): readonly ProfileShape[] | undefined {
  if (text === undefined) return undefined;
  const profiles = typeof text === 'string' ? parseProfiles(text) : undefined;
  if (profiles === undefined) {
    throw new Error(`The model's parameter profiles is "${text}", which is no list of shapes.`);
  }
  return profiles;
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
