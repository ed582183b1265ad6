import { join } from 'node:path';
import packageJson from '../../package.json';
import { type ClientClock, portableClock } from '../client/cancellation.ts';
import type { Terminal } from '../client/progress-bar.ts';
import type { ChunkOptions } from './chunks/chunk-options.ts';
import type { ShardLimits } from './job/plan-shards.ts';
import type { RecordFields } from './job/records.ts';
import type { RequestLimits } from './job/shard-rows.ts';
import type { PartFormat } from './sinks/part-format.ts';
import type { OutputHead } from './sinks/sink.ts';
import type { InputFormat } from './sources/formats.ts';

/** A job: what to encode, how, and where to. */
export interface CorpusOptions {
  /** Files, folders, globs, `s3://` addresses; or one `postgres://` address. */
  readonly sources: readonly string[];
  readonly inputFormat: InputFormat | undefined;
  readonly fields: RecordFields;
  /** Of a Postgres source: the table, or a query in brackets. */
  readonly table: string | undefined;
  /** A folder, an `s3://` prefix or a `postgres://` address. */
  readonly to: string;
  readonly format: PartFormat['name'];
  /** Of a Postgres sink; with a column, rows that are there are given their vector. */
  readonly toTable: string | undefined;
  readonly toColumn: string | undefined;
  readonly heads: readonly OutputHead[];
  readonly dtype: 'float32' | 'float16';
  readonly inputType: 'query' | 'passage';
  readonly truncate: boolean;
  /** Undefined: a text is a row, whatever its length. */
  readonly chunks: ChunkOptions | undefined;
  /** Servers that run; none: one is started for the job. */
  readonly urls: readonly string[];
  readonly apiKey: string | undefined;
  /** Requests at the same time to each server. */
  readonly concurrency: number;
  readonly requests: RequestLimits;
  readonly parts: ShardLimits;
  readonly errorsInRowMax: number;
  readonly patienceMs: number;
  readonly progressFile: string | undefined;
}

/** What a job takes from the process that it runs in. */
export interface CorpusContext {
  /** The program's file, to start a server of. */
  readonly entry: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly clock: ClientClock;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

/**
 * The context of a job in this process.
 *
 * @param environment settings of a server that the job starts for itself, keys of S3.
 * @param signal ends the job cleanly; what is committed stays.
 */
export function corpusContext(
  environment: CorpusContext['environment'],
  signal: AbortSignal = new AbortController().signal,
): CorpusContext {
  return {
    entry: join(import.meta.dir, '../main.ts'),
    environment,
    version: packageJson.version,
    clock: portableClock,
    terminal: process.stderr,
    signal,
  };
}
