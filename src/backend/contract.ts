import type { ProfileShape } from '../model/engine-profiles.ts';
import type { BatchTraces } from '../observe/tracing.ts';
import type { FloatBlock, Head } from '../vectors/output.ts';

/**
 * What the batcher and the journey know of a backend: five methods. Every backend, and every fake,
 * passes `testing/contract/backend-contract.ts`.
 */
export interface Backend {
  /** For people to read: nothing is decided by it. */
  readonly name: 'triton' | 'embedded';
  /** Whether batches run inside this process: what is down then stays down. */
  readonly isInProcess: boolean;
  /** A batch that was sent is computed to its end, whatever its signal says. Default: false. */
  readonly isUnstoppable?: boolean;
  /** Who stands in for it while it is down, as `servedBy`; undefined when nobody does. */
  readonly standIn?: string;
  /**
   * How often a model has come up behind it: after each time its rows may be others. Absent where
   * that is once.
   */
  readonly modelStarts?: number;
  /**
   * Which graph or engine computes now: another string when the bits of its rows may be others.
   * Undefined while that is not known.
   */
  readonly engine?: string | undefined;
  /** The servers behind it; absent where it computes in this process. */
  readonly endpoints?: EndpointControl;
  /**
   * What it can do and what it likes. Read anew for each batch: an engine that comes back may
   * differ.
   */
  capabilities(): BackendCapabilities;
  /** Whether a batch sent now is expected to succeed, and why not. */
  state(): BackendState;
  /**
   * Runs one batch.
   *
   * @param batch borrowed until the promise settles.
   * @returns exactly the heads that were asked for; lent until `giveBack`, where the output has it.
   * @throws ServerError EMB_BACKEND_UNAVAILABLE, EMB_BACKEND_TIMEOUT, EMB_BACKEND_FAILED,
   * EMB_OUTPUT_INVALID, or EMB_REQUEST_ABORTED once its signal has fired.
   */
  infer(batch: TokenBatch, options?: InferOptions): Promise<BatchOutput>;
  /**
   * Reports that rows of a batch were bad although its reply was whole. Resolves once it is known
   * whether the server that gave them still works; if not, it gets no further batch.
   *
   * @param servedBy as in the batch's output.
   */
  doubt(servedBy: string): Promise<void>;
  /** Closes sockets and ends workers. Batches in flight fail. */
  close(): Promise<void>;
}

/** What operators see of the servers behind a backend, and do to them. */
export interface EndpointControl {
  /** Every server, also those that are down or draining. */
  list(): readonly BackendEndpoint[];
  /**
   * Sends no new batch to one endpoint until `resume`. Resolves when it has none in flight.
   *
   * @returns false when there is no such endpoint.
   */
  drain(url: string): Promise<boolean>;
  /** @returns false when there is no such endpoint. */
  resume(url: string): boolean;
}

/** One of several servers that serve the same model. */
export interface BackendEndpoint {
  readonly url: string;
  /** Why it is down; empty while it is up. */
  readonly reason: string;
  /** It gets no new batch; those in flight finish. */
  readonly isDraining: boolean;
  readonly batchesInFlight: number;
  /** A batch was late there, and nothing has come back since: others are taken before it. */
  readonly isLate: boolean;
  readonly secondTries: SecondTries;
  /** Why its rows come over HTTP; empty while they come through shared memory. */
  readonly overHttp: string;
}

/** Batches that were late at an endpoint, counted since it was first asked. */
export interface SecondTries {
  /** Those that were sent to another endpoint too. */
  readonly sentCount: number;
  /** Those of them that the other endpoint answered first. */
  readonly wonCount: number;
}

/** How a batch is to be run. */
export interface InferOptions {
  /** Fires when nobody waits for any text of the batch; the work is given up where it can be. */
  readonly signal?: AbortSignal;
  /**
   * Name of who failed on this batch before, as `servedBy`; another takes it when there is another.
   */
  readonly avoid?: string | undefined;
  /** Traces of the requests that wait for the batch; undefined when none is traced. */
  readonly traces?: BatchTraces | undefined;
}

/**
 * Cause of an EMB_BACKEND_FAILED or EMB_OUTPUT_INVALID: which endpoint, and whether the batch seems
 * to have ended it.
 */
export class BackendFault extends Error {
  override readonly name = 'BackendFault';
  /** As in `BatchOutput`. */
  readonly servedBy: string;
  /** A worker that ended with the batch, a Triton that answers nothing right since. */
  readonly isDeath: boolean;

  constructor(message: string, options: { servedBy: string; isDeath: boolean; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.servedBy = options.servedBy;
    this.isDeath = options.isDeath;
  }
}

/** How large and of which shape a batch may be: what the planner works with. */
export interface BackendLimits {
  /** Batches that may be in flight at once. */
  readonly slotCount: number;
  /**
   * Batches that may be in flight beyond those, for a caller who would otherwise wait behind
   * another's, and for a text behind far longer ones; absent: none.
   */
  readonly spareSlotCount?: number;
  /**
   * Servers or workers that could run a batch: with a second one, what failed on the first is tried
   * there.
   */
  readonly endpointCount: number;
  /** Texts in one batch. */
  readonly batchTextsMax: number;
  /**
   * Padded tokens (longest × texts) in one batch, or the sum of all its texts' where each is
   * computed by itself; one text alone may exceed it.
   */
  readonly batchTokensMax: number;
  /** The same for a batch that asks for a vector a token: those are what fills memory. */
  readonly multiVectorTokensMax: number;
  /**
   * The largest shapes that an engine was built for, by ascending length: a batch that is longer
   * than one and no longer than the next may have the texts of the next. Unless told, any batch
   * within the other limits will do.
   */
  readonly profiles?: readonly ProfileShape[];
  /**
   * How many padded tokens one launch is worth: below that much padding, two batches are better
   * sent as one.
   */
  readonly launchTokens: number;
  /**
   * Length at which attention, which grows with the square, costs as much as the rest of a token.
   * Unless told, it costs nothing of its own.
   */
  readonly lengthTokens?: number;
  /**
   * Computes each text of a batch by itself and without padding: a batch spares messages, not work,
   * so that what waits is best spread over all slots.
   */
  readonly isOneByOne: boolean;
  /** Tokens of a text beyond which it takes more memory than there is; absent: none does. */
  readonly textTokensMax?: number;
}

/** What a backend can do, and how it likes its batches. */
export interface BackendCapabilities extends BackendLimits {
  /** The outputs of the model that runs there; of several servers, those that all have. */
  readonly heads: readonly Head[];
}

/** Ready, or what stands in the way. */
export interface BackendState {
  readonly isReady: boolean;
  /** One sentence for an operator; empty when ready. */
  readonly reason: string;
}

/** Token ids of some texts, to be padded to one length. */
export interface TokenBatch {
  /**
   * One array of token ids for each text, special tokens included; borrowed. Each has at least one
   * id.
   */
  readonly texts: readonly Int32Array[];
  /** Length that every text is padded to; at least the longest. */
  readonly paddedLength: number;
  /** What to compute; only these outputs are fetched. At least one. */
  readonly heads: readonly Head[];
}

/** What a backend answers, float32 and row-major, in the order of the batch. */
export interface BatchOutput {
  /** Who ran it: an endpoint's address, `embedded`. */
  readonly servedBy?: string;
  /** It was sent twice, so how long it took tells nothing of the next one. */
  readonly isSecondTry?: boolean;
  /**
   * Called once, when nobody reads the blocks any more: their memory is used again. Absent where
   * they are the caller's own.
   */
  readonly giveBack?: () => void;
  /** `[textCount, dimension]`. */
  readonly dense?: FloatBlock;
  /** `[textCount, paddedLength]`: the weight of each token. */
  readonly sparse?: FloatBlock;
  /** `[textCount, paddedLength - 1, dimension]`: a vector for each token but the first. */
  readonly multi_vector?: FloatBlock;
}
