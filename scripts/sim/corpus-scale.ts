/**
 * A corpus of 10^9 texts on a virtual clock: shards dealt out to workers that crash, stall past
 * their lease and come back, over a queue that loses its data. The manifest is a real one, of as
 * many shards.
 */
import {
  formatManifest,
  jobIdOf,
  type Manifest,
  parseManifest,
} from '../../src/corpus/job/manifest.ts';
import { seededRandom } from '../../src/testing/seeded-random.ts';
import { count, readFlags, SEED } from '../flags.ts';

const values = readFlags(import.meta.path, {
  shards: count(1_000_000, [1, 100_000_000], 'shards of the corpus'),
  texts: count(1000, [1, 1_000_000], 'texts of a shard'),
  workers: count(500, [1, 100_000], 'workers'),
  seed: SEED,
});
const shardCount = values.shards;
const textsPerShard = values.texts;
const workerCount = values.workers;
const random = seededRandom(values.seed);

/** Seconds of the virtual clock. */
const LEASE_S = 60;
/** A worker encodes a shard in this, give or take a third: 1,000 texts on one middling GPU. */
const SHARD_S = 4;
/** One in so many shards ends with its worker killed, or stopped past its lease. */
const CRASH_STEP = 2000;
const STALL_STEP = 3000;
const RESTART_S = 30;
const STALL_S = 300;
/** Moments when the queue loses all its data. */
const LOSSES_S = [1000, 4000];
/** As `nats-queue.ts` has it: a worker says that it lives three times a lease. */
const BEAT_S = LEASE_S / 3;

function realManifest(): Manifest {
  return {
    manifestVersion: 2,
    fingerprint: { version: '0.1.0', model: 'bge-m3', heads: ['dense'] },
    textCount: shardCount * textsPerShard,
    inputs: Array.from({ length: 1000 }, (_, index) => ({
      name: `s3://archive/laws/part-${String(index).padStart(5, '0')}.jsonl.zst`,
      bytes: 2_000_000_000,
      version: 'etag:"0123456789abcdef0123456789abcdef"',
      records: (shardCount * textsPerShard) / 1000,
      hash: '0123456789abcdef',
    })),
    id: { name: 'id', kind: 'string' },
    carried: [],
    shards: Array.from({ length: shardCount }, (_, index) => [
      Math.floor((index * 1000) / shardCount),
      index * 2_000_003,
      textsPerShard,
      Bun.hash.xxHash64(String(index)).toString(16).padStart(16, '0'),
    ]),
  };
}

function measureManifest(): Record<string, string> {
  const before = process.memoryUsage.rss();
  const made = formatManifest(realManifest());
  const startMs = performance.now();
  const manifest = parseManifest(made, 'memory');
  const parsedMs = performance.now() - startMs;
  const id = jobIdOf(manifest, 'memory');
  const idMs = performance.now() - startMs - parsedMs;
  return {
    manifest: `${(made.length / 1e6).toFixed(0)} MB`,
    'read by a worker in': `${parsedMs.toFixed(0)} ms, job ${id} in ${idMs.toFixed(0)} ms more`,
    memory: `${((process.memoryUsage.rss() - before) / 1e6).toFixed(0)} MB with its text`,
  };
}

/** An event of the virtual clock. */
interface Event {
  readonly atS: number;
  readonly act: () => void;
}

/** A binary heap by time. */
class Events {
  readonly #heap: Event[] = [];

  push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Event).atS <= event.atS) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  pop(): Event | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && right.atS < (heap[child] as Event).atS) child++;
      if ((heap[child] as Event).atS >= last.atS) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}

const counts = {
  publishes: 0,
  deliveries: 0,
  beats: 0,
  acknowledgements: 0,
  commits: 0,
  commitsOfWhatIsThere: 0,
  skippedAsCommitted: 0,
  crashes: 0,
  stalls: 0,
  losses: 0,
  lists: 0,
};

function simulate(): { seconds: number; lost: number } {
  const events = new Events();
  const committed = new Uint8Array(shardCount);
  let committedCount = 0;
  let waiting: number[] = [];
  let waitingFrom = 0;
  let leased = 0;
  /** Grows when the queue loses its data: leases of before mean nothing to it. */
  let epoch = 0;
  let nowS = 0;
  const fill = (): void => {
    counts.lists++;
    waiting = [];
    waitingFrom = 0;
    for (let shard = 0; shard < shardCount; shard++)
      if (committed[shard] === 0) waiting.push(shard);
    counts.publishes += waiting.length;
  };
  const at = (delayS: number, act: () => void): void => events.push({ atS: nowS + delayS, act });
  const commit = (shard: number): void => {
    if (committed[shard] === 1) counts.commitsOfWhatIsThere++;
    else {
      committed[shard] = 1;
      committedCount++;
      counts.commits++;
    }
  };
  const work = (): void => {
    if (committedCount === shardCount) return;
    if (waitingFrom === waiting.length) {
      // Somebody is at work on what is left; or the queue is empty, and the sink says what is.
      if (leased === 0) fill();
      at(1, work);
      return;
    }
    const shard = waiting[waitingFrom++] as number;
    counts.deliveries++;
    if (committed[shard] === 1) {
      counts.skippedAsCommitted++;
      at(0.002, work);
      return;
    }
    const own = epoch;
    leased++;
    const comeAgain = (): void => {
      if (own !== epoch) return;
      leased--;
      waiting.push(shard);
    };
    const takesS = SHARD_S * (0.67 + random.between(0, 660) / 1000);
    if (random.below(CRASH_STEP) === 0) {
      counts.crashes++;
      at(takesS / 2 + LEASE_S, comeAgain);
      at(RESTART_S, work);
    } else if (random.below(STALL_STEP) === 0) {
      counts.stalls++;
      at(LEASE_S, comeAgain);
      at(STALL_S, () => {
        commit(shard);
        work();
      });
    } else {
      counts.beats += Math.floor(takesS / BEAT_S);
      at(takesS, () => {
        commit(shard);
        counts.acknowledgements++;
        if (own === epoch) leased--;
        work();
      });
    }
  };
  fill();
  for (let worker = 0; worker < workerCount; worker++) at(random.between(0, 1000) / 100, work);
  for (const lossS of LOSSES_S) {
    at(lossS, () => {
      counts.losses++;
      epoch++;
      waiting = [];
      waitingFrom = 0;
      leased = 0;
    });
  }
  while (committedCount < shardCount) {
    const event = events.pop();
    if (event === undefined) break;
    nowS = event.atS;
    event.act();
  }
  return { seconds: nowS, lost: shardCount - committedCount };
}

const facts = measureManifest();
const startMs = performance.now();
const { seconds, lost } = simulate();
const idealS = (shardCount * SHARD_S) / workerCount;
console.log(
  JSON.stringify(
    {
      texts: shardCount * textsPerShard,
      shards: shardCount,
      workers: workerCount,
      ...facts,
      ...counts,
      messages: counts.publishes + counts.deliveries + counts.beats + counts.acknowledgements,
      'messages a second': Math.round((counts.publishes + 2 * counts.deliveries) / seconds),
      hours: (seconds / 3600).toFixed(2),
      'over the time without faults': `${(100 * (seconds / idealS - 1)).toFixed(1)} %`,
      lost,
      simulatedInMs: Math.round(performance.now() - startMs),
    },
    null,
    2,
  ),
);
process.exitCode = lost === 0 ? 0 : 1;
