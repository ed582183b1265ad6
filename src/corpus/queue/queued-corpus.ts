import { hostname } from 'node:os';
import { pause } from '../../client/cancellation.ts';
import { CorpusError } from '../corpus-error.ts';
import type { CorpusContext, CorpusOptions } from '../corpus-options.ts';
import { type CorpusReport, embedCorpus } from '../embed-corpus.ts';
import { durationOf } from '../job/progress.ts';
import { type JobRecord, unknownJob } from './job-registry.ts';
import { NatsQueue } from './nats-queue.ts';

/** What a worker needs of the queue. */
export interface QueueFlags {
  readonly url: string;
  readonly leaseMs: number;
  readonly triesMax: number;
  /** A worker waits for further jobs when none is left. */
  readonly stays: boolean;
}

/** Between two looks for a job, and between two words of a worker's progress, in ms. */
const LOOK_MS = 1000;

/** A worker that has said nothing for so long counts no more, in ms. */
const SILENT_MS = 15_000;

/**
 * Begins a job on a queue, and works on it until all of it is done, by whomever.
 *
 * @throws CorpusError, or the signal's reason.
 */
export async function embedByQueue(
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
): Promise<CorpusReport> {
  return withQueue(options, context, flags, (queue) => work(queue, options, context, undefined));
}

/**
 * Works on the jobs of a queue, one after the other, until none is left; waits for a first one.
 * One that stays goes on with the next job, also where this one was cancelled or has parts that
 * failed too often, and leaves jobs of other versions to their workers.
 *
 * @returns how many jobs it has seen to their end.
 */
export async function workOnQueue(
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
): Promise<number> {
  const { clock, signal, version, terminal } = context;
  const endMs = clock.now() + options.patienceMs;
  return withQueue(options, context, flags, async (queue) => {
    const seen = new Set<string>();
    const failed = new Set<string>();
    let doneCount = 0;
    for (;;) {
      const registry = await queue.jobs();
      const jobs = await registry.list();
      for (const { id, state } of jobs) if (state !== 'running') seen.delete(id);
      for (const id of failed) {
        if ((await registry.failuresOf(id)).length > 0) continue;
        // Somebody wants them tried again.
        failed.delete(id);
        seen.delete(id);
      }
      const next = jobs.find(
        (job) =>
          job.state === 'running' && !seen.has(job.id) && (!flags.stays || job.version === version),
      );
      if (next !== undefined) {
        if (next.version !== version) {
          const message = `job ${next.id} was made by version ${next.version}, this is ${version}.`;
          throw new CorpusError('CORPUS_JOB_DIFFERS', message);
        }
        terminal.write(`embed: working on job ${next.id}, ${next.parts} parts\n`);
        const own = { ...next.options, ...ownOptions(options) };
        await work(queue, own, context, next.id).catch((error) => {
          if (!flags.stays || !isEndOfJob(error)) throw error;
          terminal.write(`embed: ${error.message}\n`);
          failed.add(next.id);
        });
        seen.add(next.id);
        doneCount++;
      } else if (!flags.stays && (doneCount > 0 || clock.now() > endMs)) return doneCount;
      else await pause({ clock, delayMs: LOOK_MS, signal });
    }
  });
}

/** Another try by this worker would end the same: `embed retry` has the last word. */
function isEndOfJob(error: unknown): error is CorpusError {
  return (
    error instanceof CorpusError &&
    (error.code === 'CORPUS_TEXTS_FAILED' || error.code === 'CORPUS_JOB_CANCELLED')
  );
}

/** Lines about the jobs of a queue: for people. */
export async function describeJobs(
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
): Promise<string> {
  return withQueue(options, context, flags, async (queue) => {
    const jobs = await queue.jobs();
    const lines: string[] = [];
    for (const job of await jobs.list()) {
      const told = (await jobs.progressOf(job.id)).filter(
        ({ toldAt, state }) => state === 'running' && Date.now() - toldAt < SILENT_MS,
      );
      const failures = await jobs.failuresOf(job.id);
      const isRunning = job.state === 'running';
      const rate = told.reduce((sum, { textsPerSecond }) => sum + textsPerSecond, 0);
      const done =
        job.state === 'done' ? job.parts : Math.max(0, ...told.map((one) => one.partsDone));
      const seconds = (job.texts * (1 - done / job.parts)) / rate;
      const left = rate > 0 ? `, ${durationOf(seconds)} left` : '';
      // Who was at work a moment ago is not news of a job that has ended.
      const atWork = `; workers: ${told.length}, ${rate.toFixed(0)} texts/s${left}`;
      lines.push(
        `${job.id}  ${job.state}  ${done}/${job.parts} parts, ${job.texts} texts to ${job.options.to}` +
          (isRunning ? atWork : ''),
        ...failures.map(
          ({ part, count, error }) => `  part ${part} failed ${count} times: ${error}`,
        ),
      );
    }
    return lines.length === 0 ? 'no jobs\n' : `${lines.join('\n')}\n`;
  });
}

/** Brings the parts that failed, and a job that was cancelled, back among the work. */
export function retryJob(
  id: string,
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
): Promise<void> {
  return withQueue(options, context, flags, (queue) => queue.retry(id));
}

/** Ends a job: its workers stop when they look for their next shard. */
export function cancelJob(
  id: string,
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
): Promise<void> {
  return withQueue(options, context, flags, async (queue) => {
    const jobs = await queue.jobs();
    if ((await jobs.get(id)) === undefined) throw unknownJob(id);
    await jobs.setState(id, 'cancelled');
    await queue.remove(id);
  });
}

async function withQueue<Result>(
  options: CorpusOptions,
  context: CorpusContext,
  flags: QueueFlags,
  use: (queue: NatsQueue) => Promise<Result>,
): Promise<Result> {
  const queue = await NatsQueue.open({ ...flags, ...context, patienceMs: options.patienceMs });
  try {
    return await use(queue);
  } finally {
    await queue.close();
  }
}

/** Works on one job until it is done; a part that fails is noted, and the others go on. */
async function work(
  queue: NatsQueue,
  options: CorpusOptions,
  context: CorpusContext,
  known: string | undefined,
): Promise<CorpusReport> {
  const worker = `${hostname().replace(/[^\w-]/g, '-')}-${process.pid}`;
  let jobId = known;
  for (;;) {
    try {
      const report = await embedCorpus(options, context, async (opened) => {
        const id = opened.jobId;
        jobId = id;
        const jobs = await queue.jobs();
        const { parts, texts } = opened;
        if ((await jobs.get(id))?.state !== 'running' || known === undefined) {
          await jobs.put(recordOf({ id, parts, texts, options, version: context.version }));
        }
        const told = setReports(context, async () =>
          (await queue.jobs()).reportProgress(id, worker, opened.progress()),
        );
        return {
          leases: queue.leases({ id, parts, sink: opened.sink }),
          close: () => {
            told();
            return queue.giveBack();
          },
        };
      });
      await (await queue.jobs()).setState(jobId as string, 'done').catch(() => undefined);
      await queue.remove(jobId as string);
      return report;
    } catch (error) {
      const isPart = error instanceof CorpusError && error.part !== undefined;
      if (!isPart || jobId === undefined) throw error;
      await (await queue.jobs()).addFailure(jobId, error.part, error.message);
    }
  }
}

/** Tells of the progress now and then. @returns what stops it. */
function setReports(context: CorpusContext, report: () => Promise<void>): () => void {
  let isStopped = false;
  let cancel = (): void => undefined;
  const next = (): void => {
    cancel = context.clock.schedule(LOOK_MS, () => {
      // Nobody's work hangs on it.
      void report()
        .catch(() => undefined)
        .finally(() => {
          if (!isStopped) next();
        });
    });
  };
  next();
  return () => {
    isStopped = true;
    cancel();
  };
}

function recordOf(job: {
  id: string;
  parts: number;
  texts: number;
  options: CorpusOptions;
  version: string;
}): JobRecord {
  const { options, ...facts } = job;
  const { urls: _, apiKey: __, concurrency: ___, progressFile: ____, ...shared } = options;
  return { ...facts, state: 'running', options: shared };
}

/** What each worker has for itself. */
function ownOptions(options: CorpusOptions) {
  const { urls, apiKey, concurrency, progressFile, patienceMs } = options;
  return { urls, apiKey, concurrency, progressFile, patienceMs };
}
