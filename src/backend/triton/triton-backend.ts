import { lookup } from 'node:dns/promises';
import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { describeError, type Log } from '../../base/log.ts';
import { commonProfiles, type ProfileShape } from '../../model/engine-profiles.ts';
import type { SelfCheck } from '../../model/engine-record.ts';
import type { Head } from '../../vectors/output.ts';
import {
  type Backend,
  type BackendCapabilities,
  BackendFault,
  type BackendState,
  type BatchOutput,
  type EndpointControl,
  type InferOptions,
  type TokenBatch,
} from '../contract.ts';
import { type CostShape, meanCost } from './endpoint-history.ts';
import { type Call, createHedging } from './hedging.ts';
import type { SharedMemoryOptions } from './shared-memory.ts';
import { followAddresses, type ResolveName, type TritonAddress } from './triton-addresses.ts';
import { createTritonCall, type TritonCall, unavailable } from './triton-call.ts';
import {
  createTritonEndpoint,
  type EndpointOptions,
  type TritonEndpoint,
} from './triton-endpoint.ts';
import { type ExpectedModel, ModelIdentity } from './triton-model.ts';

/** The Triton backend: operators can list its endpoints, drain them and resume them. */
export interface TritonBackend extends Backend {
  readonly endpoints: EndpointControl;
}

/** The addresses of one family: a machine that has two of them is still one server. */
const lookUp: ResolveName = async (name) => {
  const found = await lookup(name, { all: true });
  const family = found.some((one) => one.family === 4) ? 4 : 6;
  return found.filter((one) => one.family === family).map((one) => one.address);
};

/**
 * One or several Triton servers that serve the same model. A batch goes to the one with the least
 * to do. When the way to it fails, the batch is sent once more, elsewhere if there is an elsewhere:
 * inference is idempotent. One that is late is sent elsewhere too (`hedging.ts`). When the batch
 * itself is refused, the endpoint is asked whether it still works, which tells a bad batch from a
 * bad endpoint.
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
  /** Unless told, batches travel over HTTP. */
  sharedMemory?: SharedMemoryOptions | undefined;
}): TritonBackend {
  const { urls, clock, log, batchesInFlight, call = createTritonCall(clock) } = options;
  const identity = new ModelIdentity();
  let modelStarts = 0;
  const onUp = (): void => {
    modelStarts++;
  };
  const endpoint = { ...options, onUp, identity, call, batchesInFlightMax: batchesInFlight };
  const fleet = createTritonFleet({ expectedHeads: options.expected.heads, endpoint });
  const endFollowing = followAddresses({
    ...{ urls, clock, log },
    resolve: options.resolve ?? lookUp,
    resolveMs: options.resolveMs ?? 0,
    onChange: fleet.follow,
  });
  const hedgedInfer = createHedging({ clock, pick: fleet.pickFit });
  let summary: FleetSummary | undefined;
  let cost: CostShape | undefined;
  let capabilities: BackendCapabilities;

  /** Asked for several times a request, so made anew only for each batch that comes back. */
  function currentCapabilities(): BackendCapabilities {
    if (summary === fleet.summary && cost === fleet.cost) return capabilities;
    summary = fleet.summary;
    cost = fleet.cost;
    const { heads, slotCount, endpointCount, profiles } = summary;
    capabilities = {
      ...{ heads, slotCount, endpointCount, profiles, ...cost },
      batchTextsMax: Math.min(options.batchTextsMax, summary.batchTextsMax),
      batchTokensMax: options.batchTokensMax,
      multiVectorTokensMax: options.multiVectorTokensMax,
      isOneByOne: false,
    };
    return capabilities;
  }

  async function infer(
    batch: TokenBatch,
    { signal, avoid }: InferOptions = {},
  ): Promise<BatchOutput> {
    const first = fleet.pick(avoid);
    if (first === undefined) throw unavailable(fleet.summary.state.reason);
    let second: Call | undefined;
    try {
      const onSecond = (call: Call): void => {
        second = call;
      };
      return await hedgedInfer(first, batch, { signal, onSecond });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (error.mayRepeatElsewhere) return await repeat(batch, { first, error, signal, second });
      throw await blame(first, error);
    }
  }

  /**
   * Once more, on a fresh connection, unless that was done when the batch was late. The same
   * endpoint gets it only after it has proved that it serves the model still.
   */
  async function repeat(
    batch: TokenBatch,
    failed: {
      first: TritonEndpoint;
      error: ServerError;
      signal: AbortSignal | undefined;
      second: Call | undefined;
    },
  ): Promise<BatchOutput> {
    const { first, error, signal } = failed;
    let second = failed.second?.endpoint ?? fleet.pickOther(first.url);
    if (second !== undefined) first.suspect(describeError(error.cause ?? error));
    // One that was taken down is being asked already, for as long as texts may wait for it.
    else if (first.model !== undefined && (await first.verify())) second = first;
    if (second === undefined) throw error;
    try {
      const call =
        failed.second?.output ?? second.infer(batch, { isFreshConnection: true, signal });
      return { ...(await call), isSecondTry: true };
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
    get modelStarts() {
      return modelStarts;
    },
    get engine() {
      return fleet.summary.engine;
    },
    endpoints: fleet.control,
    capabilities: currentCapabilities,
    state: () => fleet.summary.state,
    infer,
    async doubt(url) {
      const endpoint = fleet.at(url);
      if (endpoint !== undefined) await isStillGood(endpoint);
    },
    async close() {
      endFollowing();
      await fleet.close();
    },
  };
}

/** What the endpoints that are up can do together. */
interface FleetSummary {
  readonly state: BackendState;
  readonly heads: readonly Head[];
  /** Batches that may be in flight at once. */
  readonly slotCount: number;
  readonly endpointCount: number;
  /** `Infinity` when nothing bounds it. */
  readonly batchTextsMax: number;
  /** The largest shapes that each of them takes; empty when none of them tells. */
  readonly profiles: readonly ProfileShape[];
  /** Those that differ, in an order of their own; undefined when none is up. */
  readonly engine: string | undefined;
}

/** Several Triton servers of one model, and which of them gets the next batch. */
interface TritonFleet {
  /** Made anew on change, asked for each request. */
  readonly summary: FleetSummary;
  /** What a batch costs on the endpoints that are up, on average. Made anew once one has told. */
  readonly cost: CostShape;
  /** What operators see and do. */
  readonly control: EndpointControl;
  at(url: string): TritonEndpoint | undefined;
  /**
   * The endpoint that has the least to do, counted in padded tokens; one with a free place before
   * one without. Undefined when none is up.
   *
   * @param except is taken only when there is no other.
   */
  pick(except?: string): TritonEndpoint | undefined;
  /** The same, but never `except`. */
  pickOther(except: string): TritonEndpoint | undefined;
  /** The same, of those that fit. */
  pickFit(isFit: (endpoint: TritonEndpoint) => boolean): TritonEndpoint | undefined;
  /**
   * Brings the endpoints in line with these addresses: new ones are asked, missing ones drain and
   * are closed.
   */
  follow(addresses: readonly TritonAddress[]): void;
  close(): Promise<void>;
}

/** Makes the fleet of some servers; each is probed from the start, in the background. */
function createTritonFleet(options: {
  expectedHeads: readonly Head[];
  endpoint: Omit<EndpointOptions, 'url' | 'host' | 'onChange' | 'onCost'>;
}): TritonFleet {
  let endpoints: readonly TritonEndpoint[] = [];
  /** Whose addresses are gone, until their last batch is back. */
  const retiring = new Set<TritonEndpoint>();
  let summary = summarize();
  let cost: CostShape | undefined;

  function onChange(): void {
    summary = summarize();
    cost = undefined;
  }

  function onCost(): void {
    cost = undefined;
  }

  function summarize(): FleetSummary {
    const up = endpoints.filter(isUsable);
    const models = up.flatMap(({ model }) => (model === undefined ? [] : [model]));
    const why = endpoints.map(whyNot).join(' ');
    // One that is silent takes what there is for it, and no callers are taken on for it alone.
    const isReady = up.some(({ isSilent }) => !isSilent);
    // One in which a batch is late gets others only when there is nobody else.
    const prompt = up.some((endpoint) => !endpoint.isLate) ? up.filter((one) => !one.isLate) : up;
    return {
      state: { isReady, reason: isReady ? '' : why || 'No address of Triton is known yet.' },
      heads: options.expectedHeads.filter((head) =>
        models.every((model) => head in model.signature.outputs),
      ),
      slotCount: Math.max(
        1,
        prompt.reduce((sum, endpoint) => sum + endpoint.capacity, 0),
      ),
      endpointCount: prompt.length,
      batchTextsMax: Math.min(...models.map((model) => model.batchTextsMax)),
      profiles: commonProfiles(models.flatMap(({ profiles }) => (profiles ? [profiles] : []))),
      engine:
        [...new Set(models.flatMap(({ engine }) => engine ?? []))].sort().join(', ') || undefined,
    };
  }

  const pickOther = (except: string | undefined): TritonEndpoint | undefined =>
    pickFit(({ url }) => url !== except);

  function pickFit(isFit: (endpoint: TritonEndpoint) => boolean): TritonEndpoint | undefined {
    let best: TritonEndpoint | undefined;
    for (const endpoint of endpoints) {
      if (!isUsable(endpoint) || !isFit(endpoint)) continue;
      if (best === undefined || isBetter(endpoint, best)) best = endpoint;
    }
    return best;
  }

  function follow(addresses: readonly TritonAddress[]): void {
    const byUrl = new Map(addresses.map((address) => [address.url, address]));
    for (const endpoint of endpoints) {
      if (!byUrl.has(endpoint.url)) void retire(endpoint);
      else if (retiring.delete(endpoint)) endpoint.resume();
    }
    const known = new Set(endpoints.map((endpoint) => endpoint.url));
    const added = [...byUrl.values()].filter((address) => !known.has(address.url));
    endpoints = [
      ...endpoints,
      ...added.map((address) =>
        createTritonEndpoint({ ...options.endpoint, ...address, onChange, onCost }),
      ),
    ];
    onChange();
  }

  async function retire(endpoint: TritonEndpoint): Promise<void> {
    if (retiring.has(endpoint)) return;
    retiring.add(endpoint);
    await endpoint.drain();
    // Its address may have come back meanwhile.
    if (!retiring.delete(endpoint)) return;
    endpoints = endpoints.filter((other) => other !== endpoint);
    await endpoint.close();
  }

  function at(url: string): TritonEndpoint | undefined {
    return endpoints.find((candidate) => candidate.url === url);
  }

  const control: EndpointControl = {
    list: () => endpoints,
    async drain(url) {
      const endpoint = at(url);
      await endpoint?.drain();
      return endpoint !== undefined;
    },
    resume(url) {
      const endpoint = at(url);
      endpoint?.resume();
      return endpoint !== undefined;
    },
  };

  return {
    get summary() {
      return summary;
    },
    get cost() {
      cost ??= meanCost(endpoints.filter(isUsable).map((endpoint) => endpoint.cost));
      return cost;
    },
    control,
    at,
    pick: (except) =>
      pickOther(except) ?? (except === undefined ? undefined : pickOther(undefined)),
    pickOther,
    pickFit,
    follow,
    async close() {
      await Promise.all(endpoints.map((endpoint) => endpoint.close()));
    },
  };
}

function isUsable(endpoint: TritonEndpoint): boolean {
  return endpoint.model !== undefined && !endpoint.isDraining;
}

/** Why an endpoint that is not to be counted on is not. */
function whyNot({ url, reason, isDraining }: TritonEndpoint): string {
  return reason || (isDraining ? `${url} drains.` : `Triton at ${url} is silent.`);
}

function isBetter(a: TritonEndpoint, b: TritonEndpoint): boolean {
  if (a.isSilent !== b.isSilent) return b.isSilent;
  if (a.isLate !== b.isLate) return b.isLate;
  const isFullA = a.batchesInFlight >= a.capacity;
  const isFullB = b.batchesInFlight >= b.capacity;
  if (isFullA !== isFullB) return isFullB;
  return a.outstandingTokens < b.outstandingTokens;
}
