import { jetstream } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { CorpusError } from '../corpus-error.ts';
import type { CorpusOptions } from '../corpus-options.ts';
import type { ProgressState } from '../job/progress.ts';

/** What workers are told of a job. */
export interface JobRecord {
  readonly id: string;
  /** The version that made it: another one might write other bytes. */
  readonly version: string;
  readonly state: 'running' | 'done' | 'cancelled';
  readonly parts: number;
  readonly texts: number;
  /** As whoever began it gave them, less what is each worker's own. */
  readonly options: SharedOptions;
}

/** Options that are the same for all workers. */
export type SharedOptions = Omit<CorpusOptions, 'urls' | 'apiKey' | 'concurrency' | 'progressFile'>;

/** A part that has failed, and how often. */
export interface PartFailure {
  readonly part: number;
  readonly count: number;
  readonly error: string;
}

const BUCKET = 'embed';

/**
 * The jobs of a queue, in a bucket of keys and values: for people and for workers that look for
 * work. Nothing of it is needed to finish a job that a worker knows.
 */
export class JobRegistry {
  readonly #kv: KV;

  private constructor(kv: KV) {
    this.#kv = kv;
  }

  /** Makes the bucket where there is none, or where its data was lost. */
  static async open(connection: NatsConnection): Promise<JobRegistry> {
    return new JobRegistry(await new Kvm(jetstream(connection)).create(BUCKET));
  }

  put(job: JobRecord): Promise<number> {
    return this.#kv.put(`job.${job.id}`, JSON.stringify(job));
  }

  get(id: string): Promise<JobRecord | undefined> {
    return this.#read<JobRecord>(`job.${id}`);
  }

  /** @throws CorpusError CORPUS_QUEUE_FAILED when there is no such job. */
  async setState(id: string, state: JobRecord['state']): Promise<void> {
    const job = await this.get(id);
    if (job === undefined) throw unknownJob(id);
    await this.put({ ...job, state });
  }

  /** All jobs, in the order of their ids. */
  async list(): Promise<readonly JobRecord[]> {
    const jobs = await this.#readAll<JobRecord>('job.*');
    return jobs.toSorted((left, right) => (left.id < right.id ? -1 : 1));
  }

  async reportProgress(id: string, worker: string, state: ProgressState): Promise<void> {
    const told = { ...state, toldAt: Date.now() };
    await this.#kv.put(`worker.${id}.${worker}`, JSON.stringify(told));
  }

  /** What workers said last, and when, as ms since 1970. */
  progressOf(id: string): Promise<readonly (ProgressState & { readonly toldAt: number })[]> {
    return this.#readAll(`worker.${id}.*`);
  }

  async addFailure(id: string, part: number, error: string): Promise<void> {
    const before = await this.failureOf(id, part);
    const failure: PartFailure = { part, count: (before?.count ?? 0) + 1, error };
    await this.#kv.put(`failed.${id}.${part}`, JSON.stringify(failure));
  }

  failureOf(id: string, part: number): Promise<PartFailure | undefined> {
    return this.#read<PartFailure>(`failed.${id}.${part}`);
  }

  failuresOf(id: string): Promise<readonly PartFailure[]> {
    return this.#readAll<PartFailure>(`failed.${id}.*`);
  }

  async forgetFailures(id: string): Promise<void> {
    for (const { part } of await this.failuresOf(id)) await this.#kv.delete(`failed.${id}.${part}`);
  }

  async #read<Value>(key: string): Promise<Value | undefined> {
    const entry = await this.#kv.get(key);
    return entry === null || entry.operation !== 'PUT' ? undefined : entry.json<Value>();
  }

  async #readAll<Value>(filter: string): Promise<readonly Value[]> {
    const values: Value[] = [];
    const keys: string[] = [];
    for await (const key of await this.#kv.keys(filter)) keys.push(key);
    for (const key of keys) {
      const value = await this.#read<Value>(key);
      if (value !== undefined) values.push(value);
    }
    return values;
  }
}

/** There is no job of this id in the queue. */
export function unknownJob(id: string): CorpusError {
  return new CorpusError('CORPUS_QUEUE_FAILED', `the queue knows no job ${id}.`);
}
