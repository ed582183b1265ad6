import type { SharedMemoryOptions } from '../backend/triton/shared-memory.ts';
import type { ResolveName } from '../backend/triton/triton-addresses.ts';
import { createTritonBackend, type TritonBackend } from '../backend/triton/triton-backend.ts';
import { type Clock, systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import type { SelfCheck } from '../model/engine-record.ts';
import type { Head } from '../vectors/output.ts';

/** Deadline of a call, where a test is not about deadlines. */
const TIMEOUT_MS = 10_000;

/** How often an endpoint that is down or idle is asked; short, since tests wait for it. */
const PROBE_MS = 50;

/** A Triton backend on servers that a test has started, with dense rows alone unless told. */
export function tritonBackendOn(options: {
  urls: readonly string[];
  model: string;
  dimension: number;
  heads?: readonly Head[];
  clock?: Clock;
  timeoutMs?: number;
  probeMs?: number;
  resolveMs?: number;
  resolve?: ResolveName;
  sharedMemory?: SharedMemoryOptions;
  selfCheck?: SelfCheck;
}): TritonBackend {
  const { urls, model, dimension, clock = systemClock } = options;
  const { timeoutMs = TIMEOUT_MS, probeMs = PROBE_MS, heads = ['dense'], ...names } = options;
  return createTritonBackend({
    ...names,
    urls,
    modelName: model,
    expected: { dimension, padId: 1, heads, outputs: {} },
    timeoutMs,
    probeMs,
    batchesInFlight: 2,
    batchTextsMax: 32,
    batchTokensMax: 16_384,
    multiVectorTokensMax: 4096,
    clock,
    log: createLog({ level: 'error', write: () => undefined }),
  });
}
