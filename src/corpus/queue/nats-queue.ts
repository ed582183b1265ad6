import {
  AckPolicy,
  type Consumer,
  DiscardPolicy,
  type JsMsg,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream';
import { AuthorizationError, connect, type NatsConnection } from '@nats-io/transport-node';
import { type ClientClock, pause } from '../../client/cancellation.ts';
import { CorpusError, wordsOf } from '../corpus-error.ts';
import type { Sink } from '../sinks/sink.ts';
import { JobRegistry } from './job-registry.ts';
import { natsAccess } from './nats-access.ts';
import type { Lease } from './shard-queue.ts';

/** How a queue is used. */
export interface NatsQueueOptions {
  readonly url: string;
  /** Who we are to it, where its address does not say. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** A worker that has said nothing for so long has lost its shard, in ms. */
  readonly leaseMs: number;
  /** A part that has failed so often is dealt out no more. */
  readonly triesMax: number;
  /** How long the queue may be out of reach, in ms. */
  readonly patienceMs: number;
  readonly clock: ClientClock;
  readonly signal: AbortSignal;
}

/** What a queue asks of a sink. */
type CommittedParts = Pick<Sink, 'isCommitted' | 'committed'>;

/** How long one question for work waits on the server, in ms; then it looks whether all is done. */
const PULL_MS = 1000;
/** Before the next try when the queue is out of reach, in ms. */
const AGAIN_MS = 500;
/** Publishes on their way at the same time. */
const PUBLISHES_MAX = 256;
/** A shard that was dealt out so often without a word has killed whoever took it. */
const SILENT_DELIVERIES_MAX = 20;

const CONSUMER = 'workers';

/**
 * The shards of jobs as messages of JetStream work queues. The queue only deals out work: what a
 * job is, and which parts are done, is in its sink. So a message that comes twice, a worker that
 * comes back from the dead and a queue that has lost its data cost time, and nothing else.
 */
export class NatsQueue {
  readonly #options: NatsQueueOptions;
  readonly #connection: NatsConnection;
  /** The generators of leases that have not ended. */
  readonly #leasings = new Set<Leasing>();

  private constructor(options: NatsQueueOptions, connection: NatsConnection) {
    this.#options = options;
    this.#connection = connection;
  }

  /** @throws CorpusError CORPUS_QUEUE_FAILED. */
  static async open(options: NatsQueueOptions): Promise<NatsQueue> {
    const access = natsAccess(options.url, options.environment);
    try {
      const connection = await connect({
        ...access.options,
        name: 'bge-m3-encoder embed',
        maxReconnectAttempts: -1,
        reconnectTimeWait: AGAIN_MS,
      });
      return new NatsQueue({ ...options, url: access.shown }, connection);
    } catch (error) {
      throw queueFailed(access.shown, error);
    }
  }

  /** The jobs of this queue. */
  jobs(): Promise<JobRegistry> {
    return this.#patiently(() => JobRegistry.open(this.#connection));
  }

  /**
   * Leases the shards of a job that are left, one at a time, until every part is committed by
   * whomever. Whatever is held when the generator ends is given back; `giveBack` does so at once.
   *
   * @throws CorpusError CORPUS_TEXTS_FAILED when only parts are left that failed too often,
   *   CORPUS_JOB_CANCELLED, CORPUS_QUEUE_FAILED when the queue is out of reach.
   */
  async *leases(job: {
    id: string;
    parts: number;
    sink: CommittedParts;
  }): AsyncGenerator<Lease, void> {
    const { signal } = this.#options;
    const { promise: ended, resolve: onEnd } = Promise.withResolvers<void>();
    const held = new Set<HeldShard>();
    const leasing: Leasing = { held, isOver: false, ended };
    this.#leasings.add(leasing);
    let consumer: Consumer | undefined;
    try {
      for (;;) {
        signal.throwIfAborted();
        const message = await this.#patiently(async () => {
          consumer ??= await this.#consumer(job.id);
          try {
            return await consumer.next({ expires: PULL_MS });
          } catch (error) {
            // The stream may be gone with its data: look for it anew.
            consumer = undefined;
            throw error;
          }
        });
        if (leasing.isOver) {
          // What is given back comes round at once, and to whoever still waits for some.
          message?.nak();
          return;
        }
        if (message === null) {
          if (await this.#isDone(job, held)) return;
          continue;
        }
        const shard = Number(message.string());
        if (await this.#isSpent(job, message, shard)) continue;
        const own = [...held].find((other) => other.shard === shard);
        if (own !== undefined) {
          own.add(message);
          continue;
        }
        const hold = new HeldShard(shard, message, this.#options);
        held.add(hold);
        yield {
          shard,
          done: async () => {
            held.delete(hold);
            hold.done();
          },
        };
      }
    } finally {
      giveBackAll(held);
      this.#leasings.delete(leasing);
      onEnd();
    }
  }

  /**
   * Gives back what is held: while it waits for a further shard, a generator cannot. Then it waits
   * for the generators to end, as long as their questions take.
   */
  async giveBack(): Promise<void> {
    const leasings = [...this.#leasings];
    for (const leasing of leasings) {
      leasing.isOver = true;
      giveBackAll(leasing.held);
    }
    if (leasings.length === 0) return;
    const ends = Promise.all(leasings.map(({ ended }) => ended));
    await Promise.race([ends, waited(this.#options.clock, 2 * PULL_MS)]);
  }

  /** Makes the shards come round again, those that failed too. */
  async retry(id: string): Promise<void> {
    const jobs = await this.jobs();
    await jobs.setState(id, 'running');
    await jobs.forgetFailures(id);
    await this.remove(id);
  }

  /** Removes the messages of a job. */
  async remove(id: string): Promise<void> {
    const manager = await jetstreamManager(this.#connection);
    await manager.streams.delete(streamOf(id)).catch(() => undefined);
  }

  async close(): Promise<void> {
    await this.#connection.close();
  }

  /** A message that needs no work: its part is there, or has failed too often. */
  async #isSpent(
    job: { id: string; sink: CommittedParts },
    message: JsMsg,
    shard: number,
  ): Promise<boolean> {
    if (await job.sink.isCommitted(shard)) {
      message.ack();
      return true;
    }
    if (!message.redelivered) return false;
    const { triesMax } = this.#options;
    const jobs = await this.jobs();
    const failure = await this.#patiently(() => jobs.failureOf(job.id, shard));
    if (message.info.deliveryCount > SILENT_DELIVERIES_MAX && failure === undefined) {
      for (let count = 0; count < triesMax; count++) {
        await jobs.addFailure(job.id, shard, 'its workers ended without a word');
      }
    } else if ((failure?.count ?? 0) < triesMax) return false;
    message.term('failed too often');
    return true;
  }

  /** Called when no message came. */
  async #isDone(
    job: { id: string; parts: number; sink: CommittedParts },
    held: ReadonlySet<HeldShard>,
  ): Promise<boolean> {
    const { triesMax, clock, signal } = this.#options;
    const waiting = await this.#patiently(() => this.#messageCount(job.id));
    const jobs = await this.jobs();
    const record = await this.#patiently(() => jobs.get(job.id));
    if (record?.state === 'cancelled') {
      // Looking for work has made its stream anew.
      await this.remove(job.id);
      throw new CorpusError('CORPUS_JOB_CANCELLED', `job ${job.id} was cancelled.`);
    }
    // Somebody is at work on what is left, or we are. The sink is asked for its parts only when
    // nobody is: of a million in a bucket, a list takes a thousand questions.
    if (waiting > 0 || held.size > 0) return false;
    const committed = await job.sink.committed();
    if (committed.size >= job.parts) return true;
    const failures = await this.#patiently(() => jobs.failuresOf(job.id));
    const dead = failures.filter(({ part, count }) => count >= triesMax && !committed.has(part));
    if (committed.size + dead.length >= job.parts) {
      throw new CorpusError(
        'CORPUS_TEXTS_FAILED',
        `${dead.length} parts failed ${triesMax} times, the first is ${dead[0]?.part}: ` +
          `${dead[0]?.error} Then: ./run.sh embed retry ${job.id} --queue …`,
      );
    }
    const skipped = new Set(dead.map(({ part }) => part));
    const missing: number[] = [];
    for (let part = 0; part < job.parts; part++) {
      if (!committed.has(part) && !skipped.has(part)) missing.push(part);
    }
    await this.#patiently(async () => {
      // Whoever has seen the job's end has removed its stream.
      await this.#consumer(job.id);
      await this.#fill(job.id, missing);
    });
    await pause({ clock, delayMs: 1, signal });
    return false;
  }

  async #consumer(id: string): Promise<Consumer> {
    const { leaseMs } = this.#options;
    const manager = await jetstreamManager(this.#connection);
    const name = streamOf(id);
    await manager.streams.add({
      name,
      subjects: [subjectOf(id)],
      retention: RetentionPolicy.Workqueue,
      storage: StorageType.File,
      discard: DiscardPolicy.New,
    });
    await manager.consumers.add(name, {
      durable_name: CONSUMER,
      ack_policy: AckPolicy.Explicit,
      ack_wait: leaseMs * 1e6,
      max_deliver: -1,
      max_ack_pending: -1,
    });
    return jetstream(this.#connection).consumers.get(name, CONSUMER);
  }

  /** Messages that are waiting or leased. */
  async #messageCount(id: string): Promise<number> {
    await this.#consumer(id);
    const manager = await jetstreamManager(this.#connection);
    return (await manager.streams.info(streamOf(id))).state.messages;
  }

  async #fill(id: string, shards: readonly number[]): Promise<void> {
    const client = jetstream(this.#connection);
    for (let start = 0; start < shards.length; start += PUBLISHES_MAX) {
      const some = shards.slice(start, start + PUBLISHES_MAX);
      const publish = (shard: number): Promise<unknown> =>
        // Several workers may find the queue empty at the same time.
        client.publish(subjectOf(id), String(shard), { msgID: String(shard) });
      await Promise.all(some.map(publish));
    }
  }

  /** Tries again while the queue is out of reach. @throws CorpusError CORPUS_QUEUE_FAILED. */
  async #patiently<Result>(work: () => Promise<Result>): Promise<Result> {
    const { clock, signal, patienceMs, url } = this.#options;
    const endMs = clock.now() + patienceMs;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (error instanceof CorpusError) throw error;
        if (clock.now() > endMs) throw queueFailed(url, error);
      }
      await pause({ clock, delayMs: AGAIN_MS, signal });
    }
  }
}

/** A shard that this worker has leased. While it works, it says so three times a lease. */
class HeldShard {
  readonly shard: number;
  readonly #messages: JsMsg[];
  #stop: () => void = () => undefined;

  constructor(
    shard: number,
    message: JsMsg,
    { clock, leaseMs }: { clock: ClientClock; leaseMs: number },
  ) {
    this.shard = shard;
    this.#messages = [message];
    const beat = (): void => {
      this.#stop = clock.schedule(leaseMs / 3, () => {
        for (const one of this.#messages) one.working();
        beat();
      });
    };
    beat();
  }

  /**
   * The shard has come once more: a queue that was restarted deals out again what is worked on. Put
   * off by a lease, the message would hold up the end of the job for as long.
   */
  add(message: JsMsg): void {
    this.#messages.push(message);
  }

  /**
   * Does not wait for the queue's word: one that has lost its data has none, and the next part would
   * wait with its commit for five seconds. A word that is lost comes again, and its part is there.
   */
  done(): void {
    this.#stop();
    for (const message of this.#messages) message.ack();
  }

  giveBack(): void {
    this.#stop();
    for (const message of this.#messages) message.nak();
  }
}

/** One generator of leases. */
interface Leasing {
  /** Shards that are not done. */
  readonly held: Set<HeldShard>;
  /** Nobody wants a further one. */
  isOver: boolean;
  readonly ended: Promise<void>;
}

/** Also when the job has been aborted, unlike `pause`. */
function waited(clock: ClientClock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.schedule(delayMs, resolve);
  });
}

function giveBackAll(held: Set<HeldShard>): void {
  for (const hold of held) hold.giveBack();
  held.clear();
}

function streamOf(id: string): string {
  return `EMBED_${id}`;
}

function subjectOf(id: string): string {
  return `embed.${id}.shards`;
}

function queueFailed(url: string, error: unknown): CorpusError {
  const way =
    error instanceof AuthorizationError
      ? ' Its address may be nats://user:password@host or nats://token@host; or set NATS_USER and ' +
        'NATS_PASSWORD, NATS_TOKEN, NATS_CREDS or NATS_NKEY.'
      : '';
  const message = `the queue ${url} cannot be used: ${wordsOf(error)}.${way}`;
  return new CorpusError('CORPUS_QUEUE_FAILED', message, error);
}
