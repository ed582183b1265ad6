import type { CorpusContext, CorpusOptions } from './corpus-options.ts';
import type { Manifest } from './job/manifest.ts';
import { checkHeads, openManifest } from './job/open-manifest.ts';
import { JobProgress } from './job/progress.ts';
import { ShardReader } from './job/read-shards.ts';
import { runShards } from './job/run-shards.ts';
import { leasesInOrder } from './queue/shard-queue.ts';
import { startOwnServer } from './servers/own-server.ts';
import { type ServerAddress, ServerFleet } from './servers/server-fleet.ts';
import { askModel, type ServerModel } from './servers/server-info.ts';
import { openSink } from './sinks/open-sink.ts';
import type { PartFacts, Sink } from './sinks/sink.ts';
import { openSource } from './sources/open-source.ts';
import type { Source } from './sources/source.ts';

/** How a job ended. */
export interface CorpusReport {
  readonly texts: number;
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

/**
 * Encodes a corpus. What is committed already is left as it is; the rest is done, in fixed parts
 * whose bytes depend on the inputs and the options alone.
 *
 * @throws CorpusError, or the signal's reason.
 */
export async function embedCorpus(
  options: CorpusOptions,
  context: CorpusContext,
): Promise<CorpusReport> {
  const { clock, terminal } = context;
  const source = await openSource(options, context);
  const sink = await openSink(options, context);
  let servers: OpenServers | undefined;
  try {
    servers = await openServers(options, context);
    const { model } = servers;
    checkHeads(options.heads, model);
    const manifest = await openManifest({ options, context, source, sink, model });
    await sink.prepare({ ...manifest, ...options, dimension: model.dimension }, manifest);
    const committed = await sink.committed();
    const progress = new JobProgress({
      clock,
      terminal,
      file: options.progressFile,
      texts: manifest.textCount,
      parts: manifest.shards.length,
    });
    return await run({ options, context, source, sink, servers, manifest, committed, progress });
  } finally {
    await servers?.close();
    await sink.close();
    await source.close();
  }
}

async function run(job: {
  options: CorpusOptions;
  context: CorpusContext;
  source: Source;
  sink: Sink;
  servers: OpenServers;
  manifest: Manifest;
  committed: ReadonlySet<number>;
  progress: JobProgress;
}): Promise<CorpusReport> {
  const { options, context, source, sink, servers, manifest, committed, progress } = job;
  const { clock, signal } = context;
  const startMs = clock.now();
  const errors: CorpusReport['errors'][number][] = [];
  const noteErrors = ({ part, errors: told }: PartFacts): void => {
    const room = Math.max(0, ERRORS_TOLD_MAX - errors.length);
    errors.push(...told.slice(0, room).map(([row, error]) => ({ part, row, error })));
  };
  for (const part of [...committed].sort((left, right) => left - right)) {
    const facts = await sink.factsOf(part);
    progress.resume(facts);
    noteErrors(facts);
  }
  const textsBefore = progress.state().textsDone;
  if (committed.size > 0) {
    progress.say(`${textsBefore} of ${manifest.textCount} texts are committed already.`);
  }
  const fleet = createFleet(job);
  try {
    await runShards({
      leases: leasesInOrder(manifest.shards.length, committed),
      reader: new ShardReader({ manifest, source, fields: options.fields }),
      fleet,
      sink,
      limits: options.requests,
      expected: { model: servers.model.id, dtype: options.dtype },
      errorsInRowMax: options.errorsInRowMax,
      clock,
      signal,
      progress: {
        onRows: (rows) => progress.onRows(rows),
        onCommit(facts) {
          progress.onCommit();
          noteErrors(facts);
        },
      },
    });
    progress.end('done');
  } catch (error) {
    progress.end('stopped');
    throw error;
  } finally {
    await fleet.close();
  }
  const { textsDone, tokensDone, truncated, failed } = progress.state();
  return {
    texts: textsDone,
    tokens: tokensDone,
    truncated,
    failed,
    textsNow: textsDone - textsBefore,
    elapsedMs: clock.now() - startMs,
    errors,
  };
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
    ...options.requests,
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
    const ask = { servers: addresses, apiKey, waitMs: patienceMs, clock, signal };
    const model = await askModel(ask);
    return { addresses, model, close: async () => own?.close() };
  } catch (error) {
    await own?.close();
    throw error;
  }
}
