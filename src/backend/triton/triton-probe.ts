import { headSet } from '../backend.ts';
import type { ModelIdentity } from './model-identity.ts';
import { refusalOf, type TritonReply, type TritonRequest } from './triton-call.ts';
import { type ExpectedModel, readTritonModel, type TritonModel } from './triton-metadata.ts';
import { decodeInferReply, encodeInferRequest } from './triton-wire.ts';

/** Text that proves an endpoint: `<s> </s>` of every XLM-R vocabulary. */
const PROBE_IDS = Int32Array.of(0, 2);

/**
 * Reads the metadata and runs one real inference of every head, on fresh connections: an endpoint
 * is up only when both have worked, and when the row is the one that the model is known by.
 *
 * @throws ServerError of the calls, or Error with a sentence for the operator.
 */
export async function askModel(options: {
  modelUrl: string;
  expected: ExpectedModel;
  identity: ModelIdentity;
  timeoutMs: number;
  call: (request: TritonRequest) => Promise<TritonReply>;
}): Promise<TritonModel> {
  const { modelUrl, expected, identity, timeoutMs, call } = options;
  const isFreshConnection = true;
  const getJson = async (address: string): Promise<unknown> => {
    const reply = await call({ address, isFreshConnection, timeoutMs });
    if (reply.status !== 200) throw refusalOf(reply);
    return JSON.parse(new TextDecoder().decode(reply.body));
  };
  const [metadata, config] = await Promise.all([getJson(modelUrl), getJson(`${modelUrl}/config`)]);
  const found = readTritonModel(metadata, config, expected);
  const { signature } = found;
  const heads = headSet(expected.heads.filter((head) => head in signature.outputs));
  const batch = { texts: [PROBE_IDS], paddedLength: PROBE_IDS.length, heads };
  const request = encodeInferRequest(batch, signature, (bytes) => new ArrayBuffer(bytes));
  const reply = await call({
    address: `${modelUrl}/infer`,
    method: 'POST',
    body: request.body,
    headers: {
      'Content-Type': 'application/octet-stream',
      'Inference-Header-Content-Length': String(request.headerBytes),
    },
    isFreshConnection,
    timeoutMs,
  });
  if (reply.status !== 200) throw refusalOf(reply);
  const length = reply.headers.get('inference-header-content-length');
  const headerBytes = length === null ? null : Number(length);
  const output = decodeInferReply(reply.body, headerBytes, { signature, batch });
  const row = output.dense?.values(0, expected.dimension);
  const fault = row && identity.faultOf(row, expected.dimension);
  if (fault !== undefined) throw new Error(fault);
  return found;
}
