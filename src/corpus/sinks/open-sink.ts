import { CorpusError } from '../corpus-error.ts';
import type { CorpusContext, CorpusOptions } from '../corpus-options.ts';
import { isPostgresAddress } from '../stores/postgres.ts';
import { openS3Bucket, parseS3Address } from '../stores/s3-bucket.ts';
import { createDiskSink } from './disk-sink.ts';
import { JSONL_FORMAT } from './jsonl-format.ts';
import { NPY_FORMAT } from './npy-format.ts';
import { OPENAI_BATCH_FORMAT } from './openai-batch-format.ts';
import { PARQUET_FORMAT } from './parquet/parquet-format.ts';
import type { PartFormat } from './part-format.ts';
import { createPostgresSink } from './postgres/postgres-sink.ts';
import { createS3Sink } from './s3-sink.ts';
import type { Sink } from './sink.ts';

const FORMATS: Readonly<Record<PartFormat['name'], PartFormat>> = {
  parquet: PARQUET_FORMAT,
  jsonl: JSONL_FORMAT,
  npy: NPY_FORMAT,
  'openai-batch': OPENAI_BATCH_FORMAT,
};

/**
 * The sink that an address names. Own file because it is the one place that knows them all.
 *
 * @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SINK_FAILED.
 */
export async function openSink(options: CorpusOptions, context: CorpusContext): Promise<Sink> {
  const { to } = options;
  const format = FORMATS[options.format];
  if (to.startsWith('s3://')) {
    const { bucket, key } = parseS3Address(to);
    const { patienceMs } = options;
    const say = (words: string): void => void context.terminal.write(`embed: ${words}\n`);
    const code = 'CORPUS_SINK_FAILED';
    const opened = openS3Bucket({ ...context, bucket, code, patienceMs, say });
    return createS3Sink({ bucket: opened, prefix: key, format });
  }
  if (isPostgresAddress(to)) return createPostgresSink(options);
  if (/^\w+:\/\//.test(to)) {
    const message = `--to ${to}: a folder, s3://bucket/prefix or postgres://host/database.`;
    throw new CorpusError('CORPUS_FLAG_INVALID', message);
  }
  return createDiskSink({ folder: to, format });
}
