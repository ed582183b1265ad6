import { lookup } from 'node:dns/promises';
import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { describeError, type Log } from '../../base/log.ts';
import {
  type Backend,
  BackendFault,
  type BackendLimits,
  type BatchOutput,
  type InferOptions,
  type TokenBatch,
} from '../backend.ts';
import type { TritonEndpoint } from './endpoint-contract.ts';
import { ModelIdentity } from './model-identity.ts';
import { followAddresses, type ResolveName } from './triton-addresses.ts';
import { createTritonCall, type TritonCall, unavailable } from './triton-call.ts';
import { createTritonFleet, type FleetSummary } from './triton-fleet.ts';
import type { ExpectedModel } from './triton-metadata.ts';
import type { SelfCheck } from './triton-probe.ts';

/**
 * Padded tokens that one launch is worth on a middling GPU: 4 ms of launch, transfer and
 * bookkeeping at 120,000 tokens a second. The planner joins texts of unlike lengths only while
 * padding costs less.
 */
const LAUNCH_TOKENS = 480;

/** The Triton backend: its endpoints can be seen, and taken out one by one. */
export type TritonBackend = Required<Omit<Backend, 'standIn'>>;

/** The addresses of one family: a machine that has two of them is still one server. */
const lookUp: ResolveName = async (name) => {
  const found = await lookup(name, { all: true });
  const family = found.some((one) => one.family === 4) ? 4 : 6;
  return found.filter((one) => one.family === family).map((one) => one.address);
};

/**
 * One or several Triton servers that serve the same model. A batch goes to the one with the least
 * to do. When the way to it fails, the batch is sent once more, elsewhere if there is an elsewhere:
 * inference is idempotent. When the batch itself is refused, the endpoint is asked whether it still
 * works, which tells a bad batch from a bad endpoint.
 */
export function createTritonBackend(options: {
  urls: readonly string[];
  modelName: string;
  expected: ExpectedModel;
  /** What an endpoint must answer each time that it comes up. */
  selfCheck?: SelfCheck | undefined;
  timeoutMs: number;
  probeMs: number;
  batchesInFlight: number;
  batchTextsMax: number;
  batchTokensMax: number;
  multiVectorTokensMax: number;
  clock: Clock;
  log: Log;
  /** How often names are resolved, in ms; 0, and unless told, leaves them to the connection. */
  resolveMs?: number;
  resolve?: ResolveName;
  call?: TritonCall;
}): TritonBackend {
  const { clock, log, batchesInFlight, call = createTritonCall(clock) } = options;
  const identity = new ModelIdentity();
  const endpoint = { ...options, identity, call, batchesInFlightMax: batchesInFlight };
  const fleet = createTritonFleet({ expectedHeads: options.expected.heads, endpoint });
  const endFollowing = followAddresses({
    urls: options.urls,
    resolve: options.resolve ?? lookUp,
    resolveMs: options.resolveMs ?? 0,
    clock,
    log,
    onChange: fleet.follow,
  });
  let summary: FleetSummary | undefined;
  let limits: BackendLimits;

  /** Asked for each batch, made anew only when the fleet has changed. */
  function currentLimits(): BackendLimits {
    if (summary === fleet.summary) return limits;
    summary = fleet.summary;
    limits = {
      slotCount: summary.slotCount,
      endpointCount: summary.endpointCount,
      batchTextsMax: Math.min(options.batchTextsMax, summary.batchTextsMax),
      batchTokensMax: options.batchTokensMax,
      multiVectorTokensMax: options.multiVectorTokensMax,
      launchTokens: LAUNCH_TOKENS,
      isOneByOne: false,
    };
    return limits;
  }

  async function infer(
    batch: TokenBatch,
    { signal, avoid }: InferOptions = {},
  ): Promise<BatchOutput> {
    const first = fleet.pick(avoid);
    if (first === undefined) throw unavailable(fleet.summary.state.reason);
    try {
      return await first.infer(batch, { isFreshConnection: false, signal });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (error.mayRepeatElsewhere) return await repeat(batch, { first, error, signal });
      throw await blame(first, error);
    }
  }

  /**
   * Once more, on a fresh connection. The same endpoint gets it only after it has proved that it
   * serves the model still.
   */
  async function repeat(
    batch: TokenBatch,
    failed: { first: TritonEndpoint; error: ServerError; signal: AbortSignal | undefined },
  ): Promise<BatchOutput> {
    const { first, error, signal } = failed;
    let second = fleet.pickOther(first.url);
    if (second !== undefined) first.suspect(describeError(error.cause ?? error));
    else if (await first.verify()) second = first;
    if (second === undefined) throw error;
    try {
      return await second.infer(batch, { isFreshConnection: true, signal });
    } catch (again) {
      if (!(again instanceof ServerError)) throw again;
      if (!again.mayRepeatElsewhere) throw await blame(second, again);
      const isAlive = await second.verify();
      if (again.code !== 'EMB_BACKEND_TIMEOUT' || !isAlive) throw again;
      // Twice too slow on servers that answer others: these texts are what hangs.
      const { message, details } = again;
      const cause = new BackendFault(message, { servedBy: second.url, isDeath: true });
      throw new ServerError(again.code, message, { ...details, cause });
    }
  }

  /** Asks an endpoint that failed a batch. One that fails batches alone is set aside if it can be. */
  async function isStillGood(endpoint: TritonEndpoint): Promise<boolean> {
    const isUp = await endpoint.verify();
    const isOnceTooOften = endpoint.noteFailure();
    if (isUp && isOnceTooOften && fleet.pickOther(endpoint.url) !== undefined) {
      endpoint.eject(`${endpoint.url} failed on several batches in a row.`);
    }
    return isUp;
  }

  /**
   * Finds out whether a failed batch or its endpoint is to blame, and says so in the error's cause.
   */
  async function blame(endpoint: TritonEndpoint, error: ServerError): Promise<ServerError> {
    if (error.code === 'EMB_REQUEST_ABORTED') return error;
    const isUp = await isStillGood(endpoint);
    const { code, message, details } = error;
    const fault = { servedBy: endpoint.url, isDeath: !isUp, cause: error.cause };
    const cause = new BackendFault(`${endpoint.url}: ${isUp ? 'refused' : 'died'}`, fault);
    return new ServerError(code, message, { ...details, cause });
  }

  return {
    name: 'triton',
    isInProcess: false,
    limits: currentLimits,
    heads: () => fleet.summary.heads,
    state: () => fleet.summary.state,
    infer,
    endpoints: () => fleet.endpoints,
    async doubt(url) {
      const endpoint = fleet.endpoints.find((candidate) => candidate.url === url);
      if (endpoint !== undefined) await isStillGood(endpoint);
    },
    async drain(url) {
      const endpoint = fleet.endpoints.find((candidate) => candidate.url === url);
      await endpoint?.drain();
      return endpoint !== undefined;
    },
    resume(url) {
      const endpoint = fleet.endpoints.find((candidate) => candidate.url === url);
      endpoint?.resume();
      return endpoint !== undefined;
    },
    async close() {
      endFollowing();
      fleet.close();
    },
  };
}
