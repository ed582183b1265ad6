import { CorpusError } from '../corpus-error.ts';
import type { Manifest, PinnedColumn } from '../job/manifest.ts';
import type { RecordId } from '../job/records.ts';
import type { TextGroup } from '../sources/source.ts';

/** One text's results, as they stand in the output. */
export interface OutputRow {
  readonly id: RecordId;
  /** In the order of the carried columns. */
  readonly carried: readonly unknown[];
  /** What the server said of the text; undefined where the row carries an error. */
  readonly encoded: EncodedRow | undefined;
  /** `CODE: words`, or undefined. */
  readonly error: string | undefined;
  /** Where the text came with others in one request. */
  readonly group?: TextGroup | undefined;
}

/** Vectors of one text; every number is finite. */
export interface EncodedRow {
  /** Tokens before truncation. */
  readonly tokenCount: number;
  readonly truncated: boolean;
  /** `[dimension]`. */
  readonly dense?: Float32Array;
  readonly sparse?: { readonly indices: Int32Array; readonly values: Float32Array };
  /** Row-major `[tokenCount, dimension]`. */
  readonly multiVector?: { readonly tokenCount: number; readonly data: Float32Array };
}

/** A kind of vector. */
export type OutputHead = 'dense' | 'sparse' | 'multi_vector';

/** What each row of the output has. */
export interface OutputSchema {
  readonly id: PinnedColumn;
  readonly carried: readonly PinnedColumn[];
  readonly heads: readonly OutputHead[];
  readonly dtype: 'float32' | 'float16';
  readonly dimension: number;
  /** The model that makes the vectors. */
  readonly model: string;
}

/** What a part holds; the same for whoever writes it. */
export interface PartFacts {
  readonly part: number;
  readonly texts: number;
  /** Rows, where texts are cut into chunks. */
  readonly chunks?: number;
  /** Tokens before truncation, of the texts that have vectors. */
  readonly tokens: number;
  readonly truncated: number;
  readonly failed: number;
  /** The first rows with errors: their place in the part, and the error. */
  readonly errors: readonly (readonly [row: number, error: string])[];
}

/** A part as it is written. Whoever opened it ends it by `commit` or `abandon`. */
export interface PartWriter {
  /** Rows in order; their vectors are borrowed until the promise settles. */
  write(rows: readonly OutputRow[]): Promise<void>;
  /** Makes the part visible, whole and once. A part that is there already stays as it is. */
  commit(facts: PartFacts): Promise<void>;
  /** Leaves nothing behind. Never throws. */
  abandon(): Promise<void>;
}

/** Makes a function that runs a sink's work, and whatever that throws an error of the sink. */
export function guardOf(messageOf: (error: unknown) => string) {
  return async <Result>(work: () => Promise<Result>): Promise<Result> => {
    try {
      return await work();
    } catch (error) {
      if (error instanceof CorpusError) throw error;
      throw new CorpusError('CORPUS_SINK_FAILED', messageOf(error), error);
    }
  };
}

/** Where a job's output goes. Its methods throw CorpusError CORPUS_SINK_FAILED. */
export interface Sink {
  readonly address: string;
  /**
   * Comes before everything else. A destination that cannot take such rows is refused, and left as
   * it was. @throws CorpusError CORPUS_FLAG_INVALID, CORPUS_JOB_DIFFERS too.
   */
  check(rows: Pick<OutputSchema, 'dtype' | 'dimension'>): Promise<void>;
  /** Parts that may be committed at the same time. */
  readonly commitsAtOnce: number;
  /** The manifest that is there; undefined where there is none. */
  readManifest(): Promise<string | undefined>;
  /** Writes the manifest unless there is one. @returns whether it was written. */
  createManifest(text: string): Promise<boolean>;
  /** Makes ready for parts of this schema; may be called again. */
  prepare(schema: OutputSchema, manifest: Manifest): Promise<void>;
  /** Parts that are committed. */
  committed(): Promise<ReadonlySet<number>>;
  /** Whether this one is; it asks anew, and costs one question. */
  isCommitted(part: number): Promise<boolean>;
  /** The facts of a part that is committed. */
  factsOf(part: number): Promise<PartFacts>;
  openPart(part: number): Promise<PartWriter>;
  close(): Promise<void>;
}
