import type { OutputRow, OutputSchema } from './sink.ts';
import type { StagedFile } from './staged-file.ts';

/** Writes one part's rows into its files. */
export interface PartEncoder {
  /** Rows in order; their vectors are borrowed until the promise settles. */
  write(rows: readonly OutputRow[]): Promise<void>;
  /** Writes what comes after the last row. */
  finish(): Promise<void>;
}

/** A file format of parts. Its bytes depend on the rows alone, never on how they were grouped. */
export interface PartFormat {
  readonly name: 'parquet' | 'jsonl' | 'npy' | 'openai-batch';
  /** Endings of a part's files. The last one is put in place last, and makes the part committed. */
  readonly endings: readonly string[];
  /** @param files one for each ending, in that order. */
  open(files: readonly StagedFile[], schema: OutputSchema): PartEncoder;
}
