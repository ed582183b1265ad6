import type { ServerError } from '../base/errors.ts';
import type { RequestTrace } from '../observe/tracing.ts';
import type { TextOutput } from '../vectors/output.ts';
import type { QueuedRequest, QueuedText } from './queue.ts';

/** What one text got, or why it got nothing. */
export type TextOutcome = TextOutput | ServerError;

/** What became of a job. */
export interface JobResult {
  /** One for each text, in order. */
  readonly outcomes: readonly TextOutcome[];
  /** The longest wait of any of its texts, and the longest batch that one rode in. */
  readonly queueMs: number;
  readonly inferMs: number;
  /** Who ran its last batch: an endpoint's address, `embedded`. */
  readonly servedBy: string | undefined;
}

/**
 * A request whose texts are queued or run. It is settled once: by its last text, or when its
 * caller stops waiting.
 */
export class PendingRequest implements QueuedRequest, JobResult {
  readonly batchTextsMax: number;
  /** Its texts wait for those of all others. */
  readonly isBackground: boolean;
  readonly trace: RequestTrace | undefined;
  readonly outcomes: TextOutcome[];
  readonly #resolve: (result: JobResult) => void;
  readonly #reject: (reason: ServerError) => void;
  #openCount: number;
  waitingCount = 0;
  isSettled = false;
  queueMs = 0;
  inferMs = 0;
  servedBy: string | undefined;

  constructor(options: {
    textCount: number;
    batchTextsMax: number;
    isBackground: boolean;
    trace: RequestTrace | undefined;
    resolve: (result: JobResult) => void;
    reject: (reason: ServerError) => void;
  }) {
    this.batchTextsMax = options.batchTextsMax;
    this.isBackground = options.isBackground;
    this.trace = options.trace;
    this.outcomes = new Array(options.textCount);
    this.#openCount = options.textCount;
    this.#resolve = options.resolve;
    this.#reject = options.reject;
  }

  /** Takes what the text at `index` got; the last one settles the request. */
  put(index: number, outcome: TextOutcome, servedBy: string | undefined): void {
    this.outcomes[index] = outcome;
    this.servedBy = servedBy ?? this.servedBy;
    this.#openCount--;
    if (this.#openCount > 0 || this.isSettled) return;
    this.isSettled = true;
    this.#resolve(this);
  }

  /** Nobody waits any more. @returns whether somebody did until now. */
  abandon(reason: ServerError): boolean {
    if (this.isSettled) return false;
    this.isSettled = true;
    this.#reject(reason);
    return true;
  }
}

/** A text on its way through the batcher. */
export interface PendingText extends QueuedText {
  readonly request: PendingRequest;
  /** Place of the text in its request. */
  readonly index: number;
  readonly ids: Int32Array;
  readonly arrivedMs: number;
  /** When its batch left; 0 until then. */
  sentMs: number;
}
