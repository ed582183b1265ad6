import { afterEach, beforeEach, expect } from 'bun:test';
import type { Backend } from '../../backend/contract.ts';
import { sleep, systemClock } from '../../base/clock.ts';
import { ServerError } from '../../base/errors.ts';
import { headSet } from '../../vectors/output.ts';
import { type FakeInference, type FakeTriton, startFakeTriton } from '../fake-triton.ts';
import { deterministicEmbedding } from '../triton/deterministic-embedding.ts';
import { tritonBackendOn } from '../triton-backend-on.ts';
import { until } from '../until.ts';
import { VirtualClock } from '../virtual-clock.ts';

export const DIMENSION = 16;
export const MODEL = 'fake';
export const TEXTS = [Int32Array.of(0, 5, 6, 7, 2), Int32Array.of(0, 9, 2)];
export const BATCH = { texts: TEXTS, paddedLength: 8, heads: headSet(['dense']) };

/** The rows of `BATCH`, by an independent computation. */
export const RIGHT = TEXTS.map((text) => [...deterministicEmbedding(text, DIMENSION)]);

const TIMEOUT_MS = 5000;

/**
 * Probes come between batches; a test that moves time by 100 ms at a look gives each probe ten
 * looks.
 */
const PROBE_MS = 1000;

/**
 * A Triton backend on a fake Triton, new for each test. Deadlines are on a virtual clock: no test
 * waits for one.
 */
export interface TritonUnderFault {
  readonly fake: FakeTriton;
  readonly clock: VirtualClock;
  readonly backend: Backend;
  /** The rows, or the error, of `BATCH`. */
  infer(): Promise<readonly number[][] | ServerError>;
  /** The same, letting the deadline of each of so many calls pass once the fake has the call. */
  inferPastDeadlines(callCount: number): Promise<readonly number[][] | ServerError>;
  /** The same, moving time on until there is an outcome. */
  inferWhileTimePasses(): Promise<readonly number[][] | ServerError>;
  /** Requests of `BATCH`; the probes of an endpoint have one text alone. */
  batchRequests(): readonly FakeInference[];
}

/**
 * Registers what sets it up before each test, and checks after each that the fake was sent nothing
 * wrong.
 */
export function tritonUnderFault(): TritonUnderFault {
  let fake: FakeTriton;
  let clock: VirtualClock;
  let backend: Backend;

  beforeEach(async () => {
    const shape = { datatype: 'INT64', dimension: DIMENSION, batchTextsMax: 32 } as const;
    fake = await startFakeTriton({ model: MODEL, ...shape });
    clock = new VirtualClock();
    const options = { urls: [fake.url], model: MODEL, dimension: DIMENSION };
    backend = tritonBackendOn({ ...options, clock, timeoutMs: TIMEOUT_MS, probeMs: PROBE_MS });
    await until('the backend is ready', () => backend.state().isReady);
  });

  afterEach(async () => {
    await backend.close();
    await fake.stop();
    expect(fake.problems).toEqual([]);
  });

  async function infer(): Promise<readonly number[][] | ServerError> {
    try {
      const { dense } = await backend.infer(BATCH);
      return TEXTS.map((_, row) => [...(dense?.values(row * DIMENSION, DIMENSION) ?? [])]);
    } catch (error) {
      if (error instanceof ServerError) return error;
      throw error;
    }
  }

  const batchRequests = (): readonly FakeInference[] =>
    fake.inferences.filter(({ texts }) => texts.length === TEXTS.length);

  return {
    get fake() {
      return fake;
    },
    get clock() {
      return clock;
    },
    get backend() {
      return backend;
    },
    infer,
    async inferPastDeadlines(callCount) {
      const before = batchRequests().length;
      const outcome = infer();
      for (let call = 1; call <= callCount; call++) {
        await until(`call ${call} has arrived`, () => batchRequests().length >= before + call);
        // In steps, each with a real turn or two: a question to the fake must not seem unanswered.
        for (let step = 0; step < 50; step++) {
          await clock.advance(TIMEOUT_MS / 50);
          await sleep(systemClock, 1);
        }
      }
      return await outcome;
    },
    async inferWhileTimePasses() {
      let isOver = false;
      const outcome = infer().finally(() => {
        isOver = true;
      });
      await until('the batch has an outcome', async () => {
        await clock.advance(100);
        await sleep(systemClock, 1);
        return isOver;
      });
      return await outcome;
    },
    batchRequests,
  };
}
