import type {
  Backend,
  BackendLimits,
  BatchOutput,
  InferOptions,
  TokenBatch,
} from '../backend/contract.ts';
import type { ServerError } from '../base/errors.ts';
import { FloatBlock } from '../vectors/output.ts';
import { deterministicEmbedding } from './triton/deterministic-embedding.ts';

/** A batch that the fake was given; it runs until the test ends it. */
export interface FakeBatch extends TokenBatch {
  readonly signal: AbortSignal | undefined;
  /** Answers the right rows. */
  finish(): void;
  fail(error: ServerError): void;
}

/** A backend in the test's own hands: it records each batch and answers when told. */
export interface FakeBackend extends Backend {
  readonly dimension: number;
  /** Every batch so far, oldest first. */
  readonly batches: readonly FakeBatch[];
  /** Those that were not ended yet. */
  readonly running: readonly FakeBatch[];
  /** Most batches that ran at once. */
  readonly runningMax: number;
  /** Outputs that were not given back yet. What was given back is NaN, and no row any more. */
  readonly lentCount: number;
  /** Replaces some limits, as an engine that comes back would. */
  changeLimits(change: Partial<BackendLimits>): void;
}

const DIMENSION = 8;

/**
 * The row that the fake answers for a text: by its first id and its length, so that long texts cost
 * nothing.
 */
export function fakeRow(ids: Int32Array): Float32Array {
  return deterministicEmbedding([ids[0], ids.length], DIMENSION);
}

/** For each token but the first, the text's row again. */
function vectorsOf({ texts, paddedLength }: TokenBatch): FloatBlock {
  const rowCount = paddedLength - 1;
  const rows = new Float32Array(texts.length * rowCount * DIMENSION);
  for (const [index, ids] of texts.entries()) {
    const row = fakeRow(ids);
    for (let at = 0; at < rowCount; at++) rows.set(row, (index * rowCount + at) * DIMENSION);
  }
  return FloatBlock.of(rows);
}

/**
 * @param options.onBatch called with each batch as it arrives; it may finish it, now or later.
 */
export function createFakeBackend(
  options: { limits?: Partial<BackendLimits>; onBatch?: (batch: FakeBatch) => void } = {},
): FakeBackend {
  const batches: FakeBatch[] = [];
  const running = new Set<FakeBatch>();
  let runningMax = 0;
  let lentCount = 0;
  let limits: BackendLimits = {
    slotCount: 1,
    endpointCount: 1,
    batchTextsMax: 8,
    batchTokensMax: 1024,
    multiVectorTokensMax: 1024,
    launchTokens: 0,
    isOneByOne: false,
    ...options.limits,
  };

  function infer(batch: TokenBatch, { signal }: InferOptions = {}): Promise<BatchOutput> {
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => () => {
        running.delete(fake);
        settle();
      };
      const fake: FakeBatch = {
        ...batch,
        signal,
        finish: end(() => resolve(lend(batch))),
        fail: (error) => end(() => reject(error))(),
      };
      batches.push(fake);
      running.add(fake);
      runningMax = Math.max(runningMax, running.size);
      options.onBatch?.(fake);
    });
  }

  function lend(batch: TokenBatch): BatchOutput {
    const rows = new Float32Array(batch.texts.length * DIMENSION);
    for (const [index, ids] of batch.texts.entries()) rows.set(fakeRow(ids), index * DIMENSION);
    lentCount++;
    const giveBack = (): void => {
      lentCount--;
      rows.fill(Number.NaN);
    };
    const dense = FloatBlock.of(rows);
    if (!batch.heads.includes('multi_vector')) return { servedBy: 'fake', dense, giveBack };
    return { servedBy: 'fake', dense, multi_vector: vectorsOf(batch), giveBack };
  }

  return {
    name: 'embedded',
    isInProcess: true,
    dimension: DIMENSION,
    batches,
    get running() {
      return [...running];
    },
    get runningMax() {
      return runningMax;
    },
    get lentCount() {
      return lentCount;
    },
    capabilities: () => ({ ...limits, heads: ['dense'] }),
    state: () => ({ isReady: true, reason: '' }),
    infer,
    doubt: async () => undefined,
    changeLimits(change) {
      limits = { ...limits, ...change };
    },
    close: async () => undefined,
  };
}
