/**
 * What a text takes in memory while it is computed: a file of its own, because what runs at once
 * and what is refused both rest on it, and neither needs a model to be tested.
 */
export interface TextMemory {
  readonly bytesPerToken: number;
  /** Of graphs that store a score for each pair of tokens; others have none. */
  readonly bytesPerPair: number;
}

/**
 * Float32 values of a token that live at one time, as a multiple of the model's dimension: four
 * states, the feed-forward part's four-fold width three times, the rows of heads.
 */
const VALUES_PER_DIMENSION = 24;
/** Copies of the scores that live at one time: of the product, with the mask, of the softmax. */
const SCORE_COPIES = 3;
/** Values of one attention head, in every model of this family. */
const HEAD_SIZE = 64;
const FLOAT_BYTES = 4;

/** Estimates what a model's texts take. Pure. */
export function planTextMemory(model: {
  readonly dimension: number;
  readonly storesScores: boolean;
}): TextMemory {
  const headCount = Math.ceil(model.dimension / HEAD_SIZE);
  return {
    bytesPerToken: FLOAT_BYTES * VALUES_PER_DIMENSION * model.dimension,
    bytesPerPair: model.storesScores ? FLOAT_BYTES * SCORE_COPIES * headCount : 0,
  };
}

/** Bytes of a text of so many tokens. Pure. */
export function textBytes({ bytesPerToken, bytesPerPair }: TextMemory, tokenCount: number): number {
  return tokenCount * (bytesPerToken + bytesPerPair * tokenCount);
}

/** The longest text of `bytes`. Pure; the inverse of `textBytes`, rounded down. */
export function tokensThatFit({ bytesPerToken, bytesPerPair }: TextMemory, bytes: number): number {
  if (bytesPerPair === 0) return Math.floor(bytes / bytesPerToken);
  const root = Math.sqrt(bytesPerToken ** 2 + 4 * bytesPerPair * bytes);
  return Math.floor((root - bytesPerToken) / (2 * bytesPerPair));
}

/** What one text takes of the budget. */
interface Share {
  readonly bytes: number;
  readonly start: () => void;
  /** Whether it went before one that waited. */
  isBeside: boolean;
}

/**
 * Memory that is dealt out in the order in which it is asked for. What fits beside the first that
 * waits goes before it: a query does not wait until a long text's memory is free. The first waits
 * no longer for that, since there will be room for it and for all that went before it.
 */
export class MemoryBudget {
  readonly #bytesMax: number;
  readonly #waiting: Share[] = [];
  #bytes = 0;
  /** The part of it that went before the first that waits. */
  #besideBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * Does something that takes memory, as soon as so much is free. More than there is in all is
   * taken when nothing else is: who asks has been told before that it does not fit.
   */
  async during<Result>(bytes: number, run: () => Promise<Result>): Promise<Result> {
    const { promise, resolve: start } = Promise.withResolvers<void>();
    const share = { bytes, start, isBeside: false };
    this.#waiting.push(share);
    this.#deal();
    await promise;
    return run().finally(() => {
      this.#bytes -= bytes;
      if (share.isBeside) this.#besideBytes -= bytes;
      this.#deal();
    });
  }

  #deal(): void {
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (this.#bytes > 0 && this.#bytes + first.bytes > this.#bytesMax) break;
      this.#give(0);
    }
    const first = this.#waiting[0];
    if (first === undefined) return;
    for (let at = 1; at < this.#waiting.length; ) {
      const { bytes } = this.#waiting[at];
      const isRoom = this.#bytes + bytes <= this.#bytesMax;
      if (isRoom && this.#besideBytes + bytes + first.bytes <= this.#bytesMax) {
        this.#waiting[at].isBeside = true;
        this.#besideBytes += bytes;
        this.#give(at);
      } else at++;
    }
  }

  #give(at: number): void {
    const [{ bytes, start }] = this.#waiting.splice(at, 1);
    this.#bytes += bytes;
    start();
  }
}
