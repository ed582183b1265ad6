import type { Clock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type {
  Backend,
  BackendLimits,
  BackendState,
  BatchOutput,
  Head,
  TokenBatch,
} from '../backend.ts';
import { createTritonEndpoint, type TritonEndpoint } from './triton-endpoint.ts';
import type { ExpectedModel } from './triton-metadata.ts';

/**
 * Padded tokens that one launch is worth on a middling GPU: 4 ms of launch, transfer and
 * bookkeeping at 120,000 tokens a second. The planner joins texts of unlike lengths only while
 * padding costs less.
 */
const LAUNCH_TOKENS = 480;

interface FleetSummary {
  readonly state: BackendState;
  readonly heads: readonly Head[];
  readonly limits: BackendLimits;
}

/** Faults of the way to the backend, not of the batch. */
const MAY_REPEAT: ReadonlySet<string> = new Set(['EMB_BACKEND_UNAVAILABLE', 'EMB_BACKEND_TIMEOUT']);

/**
 * One or several Triton servers that serve the same model. A batch goes to the endpoint with the
 * fewest in flight. When the connection fails or times out it is sent once more, on a fresh
 * connection and elsewhere if there is an elsewhere: inference is idempotent.
 */
export function createTritonBackend(options: {
  urls: readonly string[];
  modelName: string;
  expected: ExpectedModel;
  timeoutMs: number;
  probeMs: number;
  batchesInFlight: number;
  batchTextsMax: number;
  batchTokensMax: number;
  multiVectorTokensMax: number;
  clock: Clock;
  log: Log;
}): Backend {
  /**
   * What the endpoints that are up can do together; asked for each request, made anew on change.
   */
  let fleet = summary([]);
  const onChange = (): void => {
    fleet = summary(endpoints);
  };
  const endpoints: readonly TritonEndpoint[] = options.urls.map((url) =>
    createTritonEndpoint({ ...options, url, onChange }),
  );
  onChange();

  function summary(all: readonly TritonEndpoint[]): FleetSummary {
    const models = all.map((endpoint) => endpoint.model).filter((model) => model !== undefined);
    const isReady = models.length > 0;
    return {
      state: { isReady, reason: isReady ? '' : all.map((endpoint) => endpoint.reason).join(' ') },
      heads: options.expected.heads.filter((head) =>
        models.every((model) => head in model.signature.outputs),
      ),
      limits: {
        slotCount: Math.max(1, models.length) * options.batchesInFlight,
        endpointCount: models.length,
        batchTextsMax: Math.min(
          options.batchTextsMax,
          ...models.map((model) => model.batchTextsMax),
        ),
        batchTokensMax: options.batchTokensMax,
        multiVectorTokensMax: options.multiVectorTokensMax,
        launchTokens: LAUNCH_TOKENS,
        isExactLength: false,
      },
    };
  }

  function idlest(except?: TritonEndpoint): TritonEndpoint | undefined {
    let best: TritonEndpoint | undefined;
    for (const endpoint of endpoints) {
      if (endpoint.model === undefined || endpoint === except) continue;
      if (best === undefined || endpoint.batchesInFlight < best.batchesInFlight) best = endpoint;
    }
    return best;
  }

  async function infer(batch: TokenBatch): Promise<BatchOutput> {
    const first = idlest() ?? endpoints[0];
    try {
      return await first.infer(batch, { isFreshConnection: false });
    } catch (error) {
      if (!(error instanceof ServerError) || !MAY_REPEAT.has(error.code)) throw error;
      const second = idlest(first);
      if (second !== undefined) first.suspect(error);
      return await (second ?? first).infer(batch, { isFreshConnection: true });
    }
  }

  return {
    name: 'triton',
    limits: () => fleet.limits,
    heads: () => fleet.heads,
    state: () => fleet.state,
    infer,
    async close() {
      for (const endpoint of endpoints) endpoint.close();
    },
  };
}
