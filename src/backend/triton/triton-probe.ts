import { type Head, headSet } from '../../vectors/head.ts';
import type { BatchOutput } from '../backend.ts';
import type { ModelIdentity } from './model-identity.ts';
import { refusalOf, type TritonReply, type TritonRequest } from './triton-call.ts';
import { inferCallOf, inferOutputOf } from './triton-exchange.ts';
import { type ExpectedModel, readTritonModel, type TritonModel } from './triton-metadata.ts';
import { encodeInferRequest, type TritonSignature } from './triton-wire.ts';

/** Text that proves an endpoint: `<s> </s>` of every XLM-R vocabulary. */
const PROBE_IDS = Int32Array.of(0, 2);

/** A text of which it is known what the model answers. */
export interface SelfCheck {
  readonly ids: Int32Array;
  /**
   * @param row the dense row that was answered; borrowed. @returns what is wrong, or nothing.
   */
  faultOf(row: Float32Array): string | undefined;
}

/**
 * Reads the metadata and runs one real inference of every head, on fresh connections: an endpoint
 * is up only when both have worked, when the self-check, if there is one, has nothing against its
 * answer, and when the row is the one that the model is known by.
 *
 * @throws ServerError of the calls, or Error with a sentence for the operator.
 */
export async function askModel(options: {
  modelUrl: string;
  expected: ExpectedModel;
  identity: ModelIdentity;
  selfCheck: SelfCheck | undefined;
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
  // First of all: an engine that fails it must not be what the others are held against.
  if (selfCheck !== undefined && dense !== undefined) {
    const checked = await infer(selfCheck.ids, headSet(['dense']));
    const difference = checked.dense && selfCheck.faultOf(checked.dense.values(0, dimension));
    if (difference !== undefined) throw new Error(difference);
  }
  const fault = dense && identity.faultOf(dense.values(0, dimension), dimension);
  if (fault !== undefined) throw new Error(fault);
  return found;
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
