import type { CorpusContext, CorpusOptions } from '../embed-corpus.ts';
import { createDiskSink } from './disk-sink.ts';
import { JSONL_FORMAT } from './jsonl-format.ts';
import { NPY_FORMAT } from './npy-format.ts';
import { PARQUET_FORMAT } from './parquet/parquet-format.ts';
import type { PartFormat } from './part-format.ts';
import type { Sink } from './sink.ts';

const FORMATS: Readonly<Record<PartFormat['name'], PartFormat>> = {
  parquet: PARQUET_FORMAT,
  jsonl: JSONL_FORMAT,
  npy: NPY_FORMAT,
};

/** The sink that an address names. @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_SINK_FAILED. */
export async function openSink(options: CorpusOptions, _context: CorpusContext): Promise<Sink> {
  return createDiskSink({ folder: options.to, format: FORMATS[options.format] });
}
