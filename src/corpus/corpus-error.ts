/** Exit statuses of the command, as `--help` lists them. */
export const CORPUS_EXIT = {
  done: 0,
  usage: 2,
  textsFailed: 3,
  refused: 4,
  stopped: 5,
  sink: 6,
  interrupted: 130,
  terminated: 143,
} as const;

/** What can end a job before it is done, and the exit status that says so. */
export const CORPUS_ERRORS = {
  /** A flag of the wrong name or value, or two that do not go together. */
  CORPUS_FLAG_INVALID: CORPUS_EXIT.usage,
  /** No such file, or one that is not what its name or flag says. */
  CORPUS_SOURCE_INVALID: CORPUS_EXIT.usage,
  /** A source that could be read no longer can: it is gone, or its store does not answer. */
  CORPUS_SOURCE_FAILED: CORPUS_EXIT.stopped,
  /** The source is no longer what the manifest pins. */
  CORPUS_SOURCE_CHANGED: CORPUS_EXIT.refused,
  /** What is there already was made in another way. */
  CORPUS_JOB_DIFFERS: CORPUS_EXIT.refused,
  /** Servers that serve different models, or another one than before. */
  CORPUS_MODEL_DIFFERS: CORPUS_EXIT.refused,
  /** No server answered for longer than we wait. */
  CORPUS_SERVER_FAILED: CORPUS_EXIT.stopped,
  /** Too many texts in a row failed. */
  CORPUS_TEXTS_FAILED: CORPUS_EXIT.stopped,
  /** `embed cancel` has ended the job. */
  CORPUS_JOB_CANCELLED: CORPUS_EXIT.stopped,
  /** The queue cannot be reached, or has no such job. */
  CORPUS_QUEUE_FAILED: CORPUS_EXIT.stopped,
  /** The sink refused: a full disk, a bucket or a table that is not ours to write. */
  CORPUS_SINK_FAILED: CORPUS_EXIT.sink,
} as const;

/** A stable code; what matched on one yesterday does tomorrow. */
export type CorpusErrorCode = keyof typeof CORPUS_ERRORS;

/** Why a job ended before it was done, in words for whoever started it. */
export class CorpusError extends Error {
  override readonly name = 'CorpusError';
  readonly code: CorpusErrorCode;
  /** The part that is to blame, where one is and others may be done. */
  readonly part: number | undefined;

  constructor(code: CorpusErrorCode, message: string, cause?: unknown, part?: number) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.part = part;
  }

  /** The status that the command exits with. */
  get exitStatus(): number {
    return CORPUS_ERRORS[this.code];
  }
}

/** The words of whatever was thrown. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
