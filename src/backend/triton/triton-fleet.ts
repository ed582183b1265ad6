import type { Head } from '../../vectors/head.ts';
import type { BackendState } from '../backend.ts';
import type { EndpointOptions, TritonEndpoint } from './endpoint-contract.ts';
import type { TritonAddress } from './triton-addresses.ts';
import { createTritonEndpoint } from './triton-endpoint.ts';

/** What the endpoints that are up can do together. */
export interface FleetSummary {
  readonly state: BackendState;
  readonly heads: readonly Head[];
  /** Batches that may be in flight at once. */
  readonly slotCount: number;
  readonly endpointCount: number;
  /** `Infinity` when nothing bounds it. */
  readonly batchTextsMax: number;
}

/** Several Triton servers of one model, and which of them gets the next batch. */
export interface TritonFleet {
  /** Made anew on change, asked for each request. */
  readonly summary: FleetSummary;
  /** Every endpoint, also those that are down or drain. */
  readonly endpoints: readonly TritonEndpoint[];
  /**
   * The endpoint that has the least to do, counted in padded tokens; one with a free place before
   * one without. Undefined when none is up.
   *
   * @param except is taken only when there is no other.
   */
  pick(except?: string): TritonEndpoint | undefined;
  /** The same, but never `except`. */
  pickOther(except: string): TritonEndpoint | undefined;
  /**
   * Brings the endpoints in line with these addresses: new ones are asked, missing ones drain and
   * are closed.
   */
  follow(addresses: readonly TritonAddress[]): void;
  close(): void;
}

/** Makes the fleet of some servers; each is probed from the start, in the background. */
export function createTritonFleet(options: {
  expectedHeads: readonly Head[];
  endpoint: Omit<EndpointOptions, 'url' | 'host' | 'onChange'>;
}): TritonFleet {
  let endpoints: readonly TritonEndpoint[] = [];
  /** Whose addresses are gone, until their last batch is back. */
  const retiring = new Set<TritonEndpoint>();
  let summary = summarize();

  function onChange(): void {
    summary = summarize();
  }

  function summarize(): FleetSummary {
    const up = endpoints.filter(isUsable);
    const models = up.flatMap(({ model }) => (model === undefined ? [] : [model]));
    const why = endpoints.map((endpoint) => endpoint.reason || `${endpoint.url} drains.`).join(' ');
    const isReady = up.length > 0;
    return {
      state: { isReady, reason: isReady ? '' : why || 'No address of Triton is known yet.' },
      heads: options.expectedHeads.filter((head) =>
        models.every((model) => head in model.signature.outputs),
      ),
      slotCount: Math.max(
        1,
        up.reduce((sum, endpoint) => sum + endpoint.capacity, 0),
      ),
      endpointCount: up.length,
      batchTextsMax: Math.min(...models.map((model) => model.batchTextsMax)),
    };
  }

  function pickOther(except: string | undefined): TritonEndpoint | undefined {
    let best: TritonEndpoint | undefined;
    for (const endpoint of endpoints) {
      if (!isUsable(endpoint) || endpoint.url === except) continue;
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
        createTritonEndpoint({ ...options.endpoint, ...address, onChange }),
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
    endpoint.close();
  }

  return {
    get summary() {
      return summary;
    },
    get endpoints() {
      return endpoints;
    },
    pick: (except) =>
      pickOther(except) ?? (except === undefined ? undefined : pickOther(undefined)),
    pickOther,
    follow,
    close() {
      for (const endpoint of endpoints) endpoint.close();
    },
  };
}

function isUsable(endpoint: TritonEndpoint): boolean {
  return endpoint.model !== undefined && !endpoint.isDraining;
}

function isBetter(a: TritonEndpoint, b: TritonEndpoint): boolean {
  const isFullA = a.batchesInFlight >= a.capacity;
  const isFullB = b.batchesInFlight >= b.capacity;
  if (isFullA !== isFullB) return isFullB;
  return a.outstandingTokens < b.outstandingTokens;
}
