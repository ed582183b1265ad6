import { expect, test } from 'bun:test';
import { VirtualClock } from '../../testing/virtual-clock.ts';
import { leasesInOrder } from '../queue/shard-queue.ts';
import type { Sink } from '../sinks/sink.ts';
import type { CorpusRecord } from './records.ts';
import { runShards } from './run-shards.ts';

/**
 * When shards are read, on a virtual clock: 20 requests each, of 10 ms, one at a time.
 *
 * Faults that were planted to see these fail: the next shard read at the fourth request before the
 * end, whatever reading takes; each read as soon as the one before is.
 */

const REQUESTS = 20;
const REQUEST_MS = 10;

/** @returns when each shard began to be read, and when the job ended, in ms. */
async function timesOf(shardCount: number, readMs: number): Promise<number[]> {
  const clock = new VirtualClock();
  const pass = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      clock.schedule(ms, resolve);
    });
  const times: number[] = [];
  const job = runShards({
    leases: leasesInOrder(shardCount, new Set()),
    reader: {
      async read(index) {
        times.push(clock.now());
        await pass(readMs);
        return { index, records: recordsOf(index) };
      },
      close: async () => undefined,
    },
    fleet: {
      concurrency: 1,
      async encode(texts) {
        await pass(REQUEST_MS);
        const rows = texts.map(({ length }) => ({ tokenCount: length, truncated: false }));
        return { model: 'scripted', rows, empty: texts.map(() => false) };
      },
    },
    sink: SINK as Sink,
    limits: { requestTextsMax: 1, requestCharactersMax: 1000 },
    expected: { model: 'scripted', dtype: 'float32' },
    errorsInRowMax: 1,
    clock,
    signal: new AbortController().signal,
    progress: { onRows: () => undefined, onCommit: () => undefined },
  }).then(() => times.push(clock.now()));
  await clock.advance(10_000);
  await job;
  return times;
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

/** Takes everything at once. */
const SINK: Pick<Sink, 'openPart'> = {
  openPart: async () => ({
    write: async () => undefined,
    commit: async () => undefined,
    abandon: async () => undefined,
  }),
};

const SHARD_MS = REQUESTS * REQUEST_MS;

test('a far source is read while the shard before is encoded, from the second one on', async () => {
  const times = await timesOf(5, 120);
  const endMs = times.at(-1) ?? 0;
  // The first reading nobody can hide; of the second one it is not known how fast requests leave.
  expect(endMs).toBeGreaterThanOrEqual(120 + 5 * SHARD_MS);
  expect(endMs).toBeLessThanOrEqual(120 + 5 * SHARD_MS + 120);
});

test('a source that is near is read late: another worker could take the shard until then', async () => {
  const times = await timesOf(5, 1);
  const endMs = times.at(-1) ?? 0;
  expect(endMs).toBeLessThanOrEqual(5 * SHARD_MS + 10);
  for (const [shard, startMs] of times.slice(1, -1).entries()) {
    expect(startMs).toBeGreaterThanOrEqual((shard + 1) * SHARD_MS - 8 * REQUEST_MS);
  }
});
