import { chunkColumns } from './chunks/chunk-options.ts';
import { openRecordChunker, type RecordChunker } from './chunks/chunk-records.ts';
import type { CorpusContext, CorpusOptions } from './corpus-options.ts';
import { jobIdOf, type Manifest, type ShardEntry } from './job/manifest.ts';
import { checkHeads, openManifest } from './job/open-manifest.ts';
import { checkProgressFile, JobProgress, type ProgressState } from './job/progress.ts';
import { ShardReader } from './job/read-shards.ts';
import { runShards } from './job/run-shards.ts';
import { type Lease, leasesInOrder } from './queue/shard-queue.ts';
import { startOwnServer } from './servers/own-server.ts';
import { type ServerAddress, ServerFleet } from './servers/server-fleet.ts';
import { askModel, chunkedModel, type ServerModel } from './servers/server-info.ts';
import { openSink } from './sinks/open-sink.ts';
import type { PartFacts, Sink } from './sinks/sink.ts';
import { openSource } from './sources/open-source.ts';
import type { Source } from './sources/source.ts';

/** How a job ended. */
export interface CorpusReport {
  readonly texts: number;
  /** Rows that texts came to, where they are cut into chunks. */
  readonly chunks: number | undefined;
  readonly tokens: number;
  readonly truncated: number;
  readonly failed: number;
  /** Texts that this run has encoded; the others were committed before. */
  readonly textsNow: number;
  readonly elapsedMs: number;
  /** The first errors: part, row in it, words. */
  readonly errors: readonly { part: number; row: number; error: string }[];
}

/** Errors that a report names; all of them stand in the output. */
const ERRORS_TOLD_MAX = 5;

/** Of more parts than this, the facts are not read: each is a question to the sink. */
const FACTS_READ_MAX = 20_000;
const FACTS_AT_ONCE = 16;

/** A job that is open, for whoever deals out its shards. */
export interface OpenedJob {
  /** The same for the same job, on every machine. */
  readonly jobId: string;
  readonly parts: number;
  readonly texts: number;
  readonly sink: Sink;
  progress(): ProgressState;
}

/** Deals out the shards of a job. */
export type DealShards = (job: OpenedJob) => Promise<{
  readonly leases: AsyncIterable<Lease>;
  /** Called when it is over. */
  readonly close: () => Promise<void>;
}>;

/**
 * Encodes a corpus. What is committed already is left as it is; the rest is done, in fixed parts
 * whose bytes depend on the inputs and the options alone.
 *
 * @param deal where shards come from; by default this process does all that are left, in order.
 * @throws CorpusError, or the signal's reason.
 */
export async function embedCorpus(
  options: CorpusOptions,
  context: CorpusContext,
  deal?: DealShards,
): Promise<CorpusReport> {
  const { clock, terminal } = context;
  if (options.progressFile !== undefined) checkProgressFile(options.progressFile);
  const source = await openSource(options, context);
  const sink = await openSink(options, context);
  let servers: OpenServers | undefined;
  try {
    servers = await openServers(options, context);
    const { model } = servers;
    checkHeads(options.heads, model);
    const chunker = await openRecordChunker(options, context, chunkedModel(model, options));
    await sink.check({ dtype: options.dtype, dimension: model.dimension });
    const manifest = await openManifest({ options, context, source, sink, model, chunker });
    const carried = [...manifest.carried, ...chunkColumns(options.chunks)];
    const { dimension, id } = model;
    const schema = { ...manifest, ...options, carried, dimension, model: id };
    await sink.prepare(schema, manifest);
    const committed = await sink.committed();
    const progress = new JobProgress({
      clock,
      terminal,
      file: options.progressFile,
      texts: manifest.textCount,
      parts: manifest.shards.length,
      isChunked: chunker !== undefined,
    });
    return await run({
      options,
      context,
      source,
      sink,
      servers,
      manifest,
      chunker,
      committed,
      progress,
      deal,
    });
  } finally {
    await servers?.close();
    await sink.close();
    await source.close();
  }
}

/** A job, with everything that it has open. */
interface OpenJob {
  readonly options: CorpusOptions;
  readonly context: CorpusContext;
  readonly source: Source;
  readonly sink: Sink;
  readonly servers: OpenServers;
  readonly manifest: Manifest;
  readonly chunker: RecordChunker | undefined;
  readonly committed: ReadonlySet<number>;
  readonly progress: JobProgress;
  readonly deal: DealShards | undefined;
}

async function run(job: OpenJob): Promise<CorpusReport> {
  const { context, manifest, committed, progress } = job;
  const startMs = context.clock.now();
  const counted = new CountedParts();
  const before = [...committed].sort((left, right) => left - right);
  await countParts(job, before, counted);
  const textsBefore = progress.state().textsDone;
  if (committed.size > 0) {
    progress.say(`${textsBefore} of ${manifest.textCount} texts are committed already.`);
  }
  try {
    await encodeShards(job, counted);
  } catch (error) {
    progress.end('stopped');
    throw error;
  }
  const textsNow = progress.state().textsDone - textsBefore;
  const ofOthers = [...manifest.shards.keys()].filter((part) => !counted.has(part));
  await countParts(job, ofOthers, counted);
  progress.end('done');
  const { textsDone, chunksDone, tokensDone, truncated, failed } = progress.state();
  const elapsedMs = context.clock.now() - startMs;
  const { errors } = counted;
  return {
    ...{ texts: textsDone, chunks: chunksDone, tokens: tokensDone },
    ...{ truncated, failed, textsNow, elapsedMs, errors },
  };
}

/**
 * Counts parts that others, or runs of before, have committed. How many texts they have is in the
 * manifest; tokens and errors are in facts of their own, which are not asked for where they are too
 * many.
 */
async function countParts(
  { manifest, sink, progress }: OpenJob,
  parts: readonly number[],
  counted: CountedParts,
): Promise<void> {
  const readsFacts = parts.length <= FACTS_READ_MAX;
  for (let start = 0; start < parts.length; start += FACTS_AT_ONCE) {
    const some = parts.slice(start, start + FACTS_AT_ONCE);
    const read = some.map((part) => {
      const [, , texts] = manifest.shards[part] as ShardEntry;
      const none = { part, texts, tokens: 0, truncated: 0, failed: 0, errors: [] };
      return readsFacts ? sink.factsOf(part) : none;
    });
    for (const facts of await Promise.all(read)) {
      progress.resume(facts);
      counted.add(facts);
    }
  }
}

/** Encodes the shards that are dealt to this process. */
async function encodeShards(job: OpenJob, counted: CountedParts): Promise<void> {
  const { options, context, source, sink, servers, manifest, chunker, committed, progress } = job;
  const fleet = createFleet(job);
  const dealt = await job.deal?.({
    jobId: jobIdOf(manifest, sink.address),
    parts: manifest.shards.length,
    texts: manifest.textCount,
    sink,
    progress: () => progress.state(),
  });
  try {
    await runShards({
      leases: dealt?.leases ?? leasesInOrder(manifest.shards.length, committed),
      reader: new ShardReader({ manifest, source, fields: options.fields, chunker, ...context }),
      fleet,
      sink,
      limits: options.requests,
      expected: {
        model: servers.model.id,
        dtype: options.dtype,
        tokensMax: chunker?.tokensMax,
      },
      errorsInRowMax: options.errorsInRowMax,
      clock: context.clock,
      signal: context.signal,
      progress: {
        onRows: (rows) => progress.onRows(rows),
        onCommit(facts) {
          progress.onCommit();
          counted.add(facts);
        },
      },
    });
  } finally {
    await dealt?.close();
    await fleet.close();
  }
}

/** Parts that this process has counted, and their first errors. */
class CountedParts {
  readonly errors: CorpusReport['errors'][number][] = [];
  readonly #parts = new Set<number>();

  add({ part, errors }: PartFacts): void {
    this.#parts.add(part);
    const room = Math.max(0, ERRORS_TOLD_MAX - this.errors.length);
    this.errors.push(...errors.slice(0, room).map(([row, error]) => ({ part, row, error })));
  }

  has(part: number): boolean {
    return this.#parts.has(part);
  }
}

function createFleet(job: {
  options: CorpusOptions;
  context: CorpusContext;
  servers: OpenServers;
  progress: JobProgress;
}): ServerFleet {
  const { options, context, servers, progress } = job;
  return new ServerFleet({
    ...options,
    servers: servers.addresses,
    clock: context.clock,
    signal: context.signal,
    onWait: ({ server, reason, delayMs }) =>
      progress.say(`waiting ${Math.ceil(delayMs)} ms for ${server}: ${reason}`),
  });
}

interface OpenServers {
  readonly addresses: readonly ServerAddress[];
  readonly model: ServerModel;
  close(): Promise<void>;
}

async function openServers(options: CorpusOptions, context: CorpusContext): Promise<OpenServers> {
  const { apiKey, patienceMs, urls } = options;
  const { clock, signal } = context;
  const own = urls.length > 0 ? undefined : await startOwnServer(context);
  try {
    const addresses = own === undefined ? urls.map((url) => ({ url })) : [own];
    const say = (words: string): void => void context.terminal.write(`embed: ${words}\n`);
    const ask = { servers: addresses, apiKey, waitMs: patienceMs, clock, signal, say };
    const model = await askModel(ask);
    return { addresses, model, close: async () => own?.close() };
  } catch (error) {
    await own?.close();
    throw error;
  }
}
