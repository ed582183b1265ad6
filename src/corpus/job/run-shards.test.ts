import { expect, test } from 'bun:test';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { leasesInOrder } from '../queue/shard-queue.ts';
import type { Sink } from '../sinks/sink.ts';
import type { CorpusRecord } from './records.ts';
import { runShards } from './run-shards.ts';

/**
 * When shards are read and committed, on a virtual clock: 20 requests each, of 10 ms, in turn.
 *
 * Faults that were planted to see these fail: the next shard read at the fourth request before the
 * end, whatever reading takes; each read as soon as the one before is; one commit at a time, or
 * however many; a commit that fails seen at the end alone, or not waited for.
 */

const REQUESTS = 20;
const REQUEST_MS = 10;
const SHARD_MS = REQUESTS * REQUEST_MS;

/** A job on a virtual clock, and when what happened, in ms. */
class TimedJob {
  readonly reads: number[] = [];
  readonly committed: number[] = [];
  readonly abandoned: number[] = [];
  commitsAtOnce = 1;
  commitsMost = 0;
  endMs = 0;
  error: unknown;
  readonly #clock = new VirtualClock();
  #committing = 0;

  /** @param failingPart cannot be committed. */
  async run(options: {
    shardCount: number;
    readMs: number;
    commitMs: number;
    failingPart?: number;
  }): Promise<void> {
    const { shardCount, readMs, commitMs, failingPart } = options;
    const clock = this.#clock;
    const job = runShards({
      leases: leasesInOrder(shardCount, new Set()),
      reader: {
        read: async (index) => {
          this.reads.push(clock.now());
          await this.#pass(readMs);
          return { index, records: recordsOf(index) };
        },
        close: async () => undefined,
      },
      fleet: {
        concurrency: 1,
        encode: async (texts) => {
          await this.#pass(REQUEST_MS);
          const rows = texts.map(({ length }) => ({ tokenCount: length, truncated: false }));
          return { model: 'scripted', rows, empty: texts.map(() => false) };
        },
      },
      sink: { commitsAtOnce: this.commitsAtOnce, openPart: this.#opener(commitMs, failingPart) },
      limits: { requestTextsMax: 1, requestCharactersMax: 1000 },
      expected: { model: 'scripted', dtype: 'float32' },
      errorsInRowMax: 1,
      clock,
      signal: new AbortController().signal,
      progress: { onRows: () => undefined, onCommit: ({ part }) => this.committed.push(part) },
    })
      .catch((error) => {
        this.error = error;
      })
      .finally(() => {
        this.endMs = clock.now();
      });
    await clock.advance(20_000);
    await job;
    expect(this.#committing).toBe(0);
  }

  #opener(commitMs: number, failingPart: number | undefined): Sink['openPart'] {
    return async (part) => ({
      write: async () => undefined,
      commit: async () => {
        this.commitsMost = Math.max(this.commitsMost, ++this.#committing);
        await this.#pass(commitMs);
        this.#committing--;
        if (part === failingPart) throw new Error(`part ${part} cannot be committed`);
      },
      abandon: async () => void this.abandoned.push(part),
    });
  }

  #pass(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.schedule(ms, resolve);
    });
  }
}

function recordsOf(shard: number): CorpusRecord[] {
  return Array.from({ length: REQUESTS }, (_, index) => ({
    id: index,
    text: `статья ${shard} ${index}`,
    fault: undefined,
    carried: [],
    group: undefined,
  }));
}

test('a far source is read while the shard before is encoded, from the second one on', async () => {
  const job = new TimedJob();
  await job.run({ shardCount: 5, readMs: 120, commitMs: 0 });
  // The first reading nobody can hide; of the second one it is not known how fast requests leave.
  expect(job.endMs).toBeGreaterThanOrEqual(120 + 5 * SHARD_MS);
  expect(job.endMs).toBeLessThanOrEqual(120 + 5 * SHARD_MS + 120);
});

test('a source that is near is read late: another worker could take the shard until then', async () => {
  const job = new TimedJob();
  await job.run({ shardCount: 5, readMs: 1, commitMs: 0 });
  expect(job.endMs).toBeLessThanOrEqual(5 * SHARD_MS + 10);
  for (const [shard, startMs] of job.reads.slice(1).entries()) {
    expect(startMs).toBeGreaterThanOrEqual((shard + 1) * SHARD_MS - 8 * REQUEST_MS);
  }
});

test.each([
  // A commit takes six times what its texts do.
  [1, 48 * SHARD_MS],
  [4, 15 * SHARD_MS],
])('of a sink that takes %d commits at once, no more are under way', async (most, aboutMs) => {
  const job = new TimedJob();
  job.commitsAtOnce = most;
  await job.run({ shardCount: 8, readMs: 1, commitMs: 6 * SHARD_MS });
  expect(job.commitsMost).toBe(most);
  expect(job.committed.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(job.endMs).toBeGreaterThanOrEqual(aboutMs);
  expect(job.endMs).toBeLessThan(aboutMs + 2 * SHARD_MS);
});

test('a commit that fails ends the job at the next one, and the others are waited for', async () => {
  const job = new TimedJob();
  job.commitsAtOnce = 4;
  await job.run({ shardCount: 20, readMs: 1, commitMs: 1.5 * SHARD_MS, failingPart: 2 });
  expect(job.error).toMatchObject({ message: 'part 2 cannot be committed' });
  // Part 3 was under way, and part 4 was about to be: its commit does not begin.
  expect(job.committed).toEqual([0, 1, 3]);
  expect(job.abandoned).toEqual([2, 4]);
  expect(job.endMs).toBeGreaterThanOrEqual(5.5 * SHARD_MS);
});
