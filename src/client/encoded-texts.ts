import { APIEncoderError } from './api-encoder-error.ts';
import type { EncodeReply, MultiVector, SparseRow } from './read-encode-reply.ts';

/** Everything that the server says of one text. */
export interface EncodedText {
  /** The model that made the vectors. */
  readonly model: string;
  /** Tokens before truncation, special tokens included. */
  readonly tokenCount: number;
  /** Whether the model saw only the beginning of the text. */
  readonly truncated: boolean;
  /** `[dimension]` float32; present when it was asked for. */
  readonly dense?: Float32Array;
  readonly sparse?: SparseRow;
  readonly multiVector?: MultiVector;
}

/** The dense rows of a call, all in one block of memory. */
export class RowMatrix {
  readonly #textCount: number;
  #dimension = 0;
  #bytes = new Uint8Array();

  constructor(textCount: number) {
    this.#textCount = textCount;
  }

  /**
   * Copies a reply's rows to their place; the first reply says how long rows are. The copy also
   * aligns them.
   */
  place(start: number, { dense, dimension }: EncodeReply): void {
    if (dense === undefined) return;
    if (this.#dimension === 0) {
      this.#dimension = dimension;
      this.#bytes = new Uint8Array(this.#textCount * dimension * 4);
    }
    this.#bytes.set(dense, start * dimension * 4);
  }

  /** One view a text; together they are the matrix, and it lives as long as any of them. */
  rows(): Float32Array[] {
    const dimension = this.#dimension;
    const { buffer } = this.#bytes;
    return Array.from(
      { length: this.#textCount },
      (_, index) => new Float32Array(buffer, index * dimension * 4, dimension),
    );
  }
}

/** The texts of one reply; their dense rows are views of one matrix. */
export function textsOfReply(reply: EncodeReply): EncodedText[] {
  const { model, tokenCounts, truncated, sparse, multiVectors } = reply;
  const matrix = new RowMatrix(tokenCounts.length);
  matrix.place(0, reply);
  const rows = reply.dense === undefined ? undefined : matrix.rows();
  return tokenCounts.map((tokenCount, index) => ({
    model,
    tokenCount,
    truncated: truncated[index],
    ...(rows === undefined ? {} : { dense: rows[index] }),
    ...(sparse === undefined ? {} : { sparse: sparse[index] }),
    ...(multiVectors === undefined ? {} : { multiVector: multiVectors[index] }),
  }));
}

/**
 * Makes a check that all replies of a call come from one model. Behind a balancer two servers may
 * differ, during a rollout say, and vectors of two models must not be mixed.
 *
 * @returns throws APIEncoderError CLIENT_REPLY_INVALID.
 */
export function createSameModelCheck(): (reply: EncodeReply) => void {
  let first: EncodeReply | undefined;
  return (reply) => {
    first ??= reply;
    if (first.model === reply.model && first.dimension === reply.dimension) return;
    throw new APIEncoderError(
      'CLIENT_REPLY_INVALID',
      `The replies come from two models, ${first.model} (${first.dimension} dimensions) and ` +
        `${reply.model} (${reply.dimension}); their vectors do not mix.`,
    );
  };
}
