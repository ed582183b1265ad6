/** A shard that is ours to encode until it is done or given back. */
export interface Lease {
  readonly shard: number;
  /** Its part is committed. */
  done(): Promise<void>;
}

/** The shards that are left, one after the other, of a job that runs in this process alone. */
export async function* leasesInOrder(
  shardCount: number,
  committed: ReadonlySet<number>,
): AsyncGenerator<Lease, void, undefined> {
  for (let shard = 0; shard < shardCount; shard++) {
    if (!committed.has(shard)) yield { shard, done: async () => undefined };
  }
}
