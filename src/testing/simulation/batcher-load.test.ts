import { describe, expect, test } from 'bun:test';
import { batcherHarness, hasOwnRows, type TrackedJob, uniqueText } from '../batcher-harness.ts';
import { createFakeBackend, type FakeBatch } from '../fake-backend.ts';
import { type SeededRandom, seededRandom } from '../seeded-random.ts';
import { VirtualClock } from '../virtual-clock.ts';

/**
 * The micro-batcher under load, on a virtual clock and a backend with a price: a launch, and so
 * much for each padded token. A failure names the seed that replays it.
 */

const LAUNCH_MS = 4;
const TOKENS_PER_MS = 120;

interface Load {
  readonly clock: VirtualClock;
  readonly backend: ReturnType<typeof createFakeBackend>;
  readonly harness: ReturnType<typeof batcherHarness>;
}

function startLoad(slotCount = 2, isOneByOne = false): Load {
  const clock = new VirtualClock();
  const onBatch = (batch: FakeBatch): void => {
    const tokenCount = isOneByOne ? tokensOf(batch.texts) : batch.texts.length * batch.paddedLength;
    clock.schedule(LAUNCH_MS + tokenCount / TOKENS_PER_MS, batch.finish);
  };
  const limits = isOneByOne
    ? { slotCount, batchTextsMax: 16, batchTokensMax: 320, isOneByOne }
    : { slotCount, batchTextsMax: 32, batchTokensMax: 16_384, launchTokens: 480 };
  const backend = createFakeBackend({ limits, onBatch });
  return { clock, backend, harness: batcherHarness({ backend, clock }) };
}

const tokensOf = (texts: readonly Int32Array[]): number =>
  texts.reduce((sum, ids) => sum + ids.length, 0);

const latencyOf = ({ submittedMs, settledMs }: TrackedJob): number =>
  (settledMs ?? Number.POSITIVE_INFINITY) - submittedMs;

describe('a mixed load', () => {
  for (let seed = 1; seed <= 24; seed++) {
    const isOneByOne = seed > 12;
    const how = isOneByOne ? 'one by one' : 'together';
    test(`each text is answered once, with its own row, ${how}, seed ${seed}`, async () => {
      const random = seededRandom(seed);
      const load = startLoad(random.between(1, 4), isOneByOne);
      const jobs: TrackedJob[] = [];
      const departed = new Set<TrackedJob>();
      for (let step = 0; step < 120; step++) {
        for (let count = random.pick([0, 1, 1, 30]); count > 0; count--) {
          jobs.push(submitRandom(load, random));
        }
        if (random.below(4) === 0) {
          const job = random.pick(jobs.length === 0 ? [submitRandom(load, random)] : jobs);
          job.hangUp();
          departed.add(job);
        }
        await load.clock.advance(random.pick([0, 1, 20]));
        expect(load.backend.running.length).toBeLessThanOrEqual(
          load.backend.capabilities().slotCount,
        );
      }
      await load.clock.advance(1e6);
      for (const job of jobs) {
        expect(job.settleCount).toBe(1);
        if (!departed.has(job)) expect(hasOwnRows(job)).toBe(true);
      }
      for (const batch of load.backend.batches) checkBatch(batch, load);
      expect(load.harness.batcher.foreground.waitingTextCount).toBe(0);
      expect(load.harness.batcher.batchesInFlight).toBe(0);
      expect(load.clock.plannedCount).toBe(0);
    });
  }
});

function submitRandom({ harness }: Load, random: SeededRandom): TrackedJob {
  const texts = Array.from({ length: random.pick([1, 1, 1, 5, 40]) }, () =>
    uniqueText(random.between(2, random.pick([20, 120, 1200]))),
  );
  const caller = random.pick(['one', 'one', 'one', 'two', 'three']);
  const batchTextsMax = random.pick([Number.POSITIVE_INFINITY, 1, 4]);
  return harness.submit(texts, { batchTextsMax, caller });
}

function checkBatch({ texts, paddedLength }: FakeBatch, { backend }: Load): void {
  const { batchTextsMax, batchTokensMax, isOneByOne } = backend.capabilities();
  expect(texts.length).toBeLessThanOrEqual(batchTextsMax);
  if (texts.length > 1) {
    const tokenCount = isOneByOne ? tokensOf(texts) : texts.length * paddedLength;
    expect(tokenCount).toBeLessThanOrEqual(batchTokensMax);
  }
  expect(Math.max(...texts.map((ids) => ids.length))).toBeLessThanOrEqual(paddedLength);
  expect(new Set(texts).size).toBe(texts.length);
}

describe('fairness', () => {
  test('single queries go through while one request has 10,000 texts', async () => {
    const load = startLoad();
    const bulk = load.harness.submit(Array.from({ length: 10_000 }, () => uniqueText(60)));
    await load.clock.advance(20);
    const queries: TrackedJob[] = [];
    for (let query = 0; query < 100; query++) {
      queries.push(load.harness.submit([uniqueText(10)]));
      await load.clock.advance(10);
    }
    await load.clock.advance(1e6);
    // What runs when a query comes has to end first; one batch of the bulk takes 20 ms.
    const batchMs = LAUNCH_MS + (32 * 64) / TOKENS_PER_MS;
    const slowest = Math.max(...queries.map(latencyOf));
    expect(slowest).toBeLessThan(4 * batchMs);
    expect([bulk, ...queries].every(hasOwnRows)).toBe(true);
    // And the bulk loses next to nothing by it.
    const alone = startLoad();
    const bulkAlone = alone.harness.submit(Array.from({ length: 10_000 }, () => uniqueText(60)));
    await alone.clock.advance(1e6);
    expect(latencyOf(bulk)).toBeLessThan(latencyOf(bulkAlone) * 1.3);
  });

  test('a long document is not starved by a stream of queries that fills the backend', async () => {
    const load = startLoad(1);
    const queries: TrackedJob[] = [];
    const flood = async (ms: number): Promise<void> => {
      for (let step = 0; step < ms; step++) {
        // The backend can do 2.6 a ms: their queue grows all the time.
        for (let query = 0; query < 4; query++) queries.push(load.harness.submit([uniqueText(30)]));
        await load.clock.advance(1);
      }
    };
    await flood(200);
    const document = load.harness.submit([uniqueText(4000)]);
    for (let wait = 0; wait < 40 && document.settleCount === 0; wait++) await flood(50);
    expect(document.settleCount).toBe(1);
    expect(load.harness.batcher.foreground.waitingTextCount).toBeGreaterThan(1000);
  });

  test('a query is not held up by long documents that wait', async () => {
    const load = startLoad(1);
    for (let count = 0; count < 40; count++) load.harness.submit([uniqueText(8000)]);
    await load.clock.advance(100);
    const query = load.harness.submit([uniqueText(8)]);
    await load.clock.advance(1e6);
    // Two of the documents that are in work or about to be take 71 ms each.
    expect(latencyOf(query)).toBeLessThan(2 * 2 * (LAUNCH_MS + (2 * 8192) / TOKENS_PER_MS));
  });
});

describe('a request of one text a batch', () => {
  /** What 1,024 short texts hold up, sent with `batch_size: 1`, beside a query every 10 ms. */
  async function beside(bulkLength: number, queryLength: number) {
    const load = startLoad();
    const texts = Array.from({ length: 1024 }, () => uniqueText(bulkLength));
    const bulk = load.harness.submit(texts, { batchTextsMax: 1 });
    await load.clock.advance(20);
    const queries: TrackedJob[] = [];
    for (let query = 0; query < 150; query++) {
      queries.push(load.harness.submit([uniqueText(queryLength)]));
      await load.clock.advance(10);
    }
    await load.clock.advance(1e6);
    expect([bulk, ...queries].every(hasOwnRows)).toBe(true);
    return { slowestMs: Math.max(...queries.map(latencyOf)), bulkMs: latencyOf(bulk) };
  }

  test.each([
    ['of the same length', 8, 8],
    ['that are longer', 8, 30],
    ['that are shorter', 30, 8],
  ])('holds up no queries %s', async (_what, bulkLength, queryLength) => {
    const { slowestMs, bulkMs } = await beside(bulkLength, queryLength);
    // What is in both slots has to end first, a launch each, and then its own runs.
    expect(slowestMs).toBeLessThan(3 * (LAUNCH_MS + 32 / TOKENS_PER_MS));
    // Two launches at a time, and one in three or so is led by a query.
    expect(bulkMs).toBeLessThan((1024 / 2) * (LAUNCH_MS + 32 / TOKENS_PER_MS) * 1.3);
  });

  test('shares its batches with others of its kind', async () => {
    const load = startLoad();
    for (let request = 0; request < 8; request++) {
      const texts = Array.from({ length: 256 }, () => uniqueText(8));
      load.harness.submit(texts, { batchTextsMax: 1 });
    }
    await load.clock.advance(1e6);
    expect(load.backend.batches.length).toBeLessThan(256 * 1.1);
  });

  test('is no hurdle for a document, nor for the texts of its callers that left', async () => {
    const load = startLoad();
    const texts = () => Array.from({ length: 1024 }, () => uniqueText(8));
    const bulk = load.harness.submit(texts(), { batchTextsMax: 1 });
    const left = load.harness.submit(texts(), { batchTextsMax: 1 });
    await load.clock.advance(100);
    left.hangUp();
    expect(load.harness.batcher.foreground.waitingTextCount).toBeLessThanOrEqual(1024);
    const document = load.harness.submit([uniqueText(4000)]);
    await load.clock.advance(1e6);
    expect(latencyOf(document)).toBeLessThan(latencyOf(bulk));
    expect(load.harness.batcher.foreground.waitingTextCount).toBe(0);
  });
});
