/**
 * Where in an input a record begins: a byte, a count of records or, in a table, a key. What it
 * means is the input's own affair; others store it and hand it back.
 */
export type Position = number | string;

/** One record as it lies in an input. */
export interface RawRecord {
  readonly position: Position;
  /** Its fields by name; undefined where it cannot be read. */
  readonly fields: Readonly<Record<string, unknown>> | undefined;
  /** Why it cannot be read, for the row's error. */
  readonly fault?: string;
  /** Where the text is one of several: all of them have the same position. */
  readonly group?: TextGroup;
}

/** Texts that came in one request, and whose vectors leave in one reply. They are neighbours. */
export interface TextGroup {
  /** Place of this text in it, from 0. */
  readonly index: number;
  readonly count: number;
}

/** What an input was when the job was made. */
export interface InputVersion {
  /** Bytes of the file or object; 0 for a table. */
  readonly bytes: number;
  /** Changes when the content does, and at times when it does not: a time, an etag. */
  readonly version: string;
}

/** A file, an object or a table of texts. */
export interface SourceInput {
  /** As the user knows it. */
  readonly name: string;
  /** What it is now, without reading it. @throws CorpusError CORPUS_SOURCE_INVALID. */
  look(): Promise<InputVersion>;
  /**
   * Reads in order from a position that a record has told before, or from the start.
   *
   * @throws CorpusError CORPUS_SOURCE_INVALID.
   */
  read(from: Position | undefined): AsyncGenerator<readonly RawRecord[], void, undefined>;
  /** Whether `read` goes to a position without reading what is before it. */
  readonly isSeekable: boolean;
}

/** All inputs of a job, in the order of the output. */
export interface Source {
  readonly inputs: readonly SourceInput[];
  close(): Promise<void>;
}
