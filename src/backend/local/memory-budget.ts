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

/** Memory that is dealt out in the order in which it is asked for. */
export class MemoryBudget {
  readonly #bytesMax: number;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Does something that takes memory, as soon as so much is free. */
  async during<Result>(bytes: number, run: () => Promise<Result>): Promise<Result> {
    await this.take(bytes);
    return run().finally(() => this.giveBack(bytes));
  }

  /**
   * Resolves once so much is free. More than there is in all is taken when nothing else is: who
   * asks has been told before that it does not fit.
   */
  take(bytes: number): Promise<void> {
    return new Promise((start) => {
      this.#waiting.push({ bytes, start });
      this.#deal();
    });
  }

  /** Gives back what `take` was given. */
  giveBack(bytes: number): void {
    this.#bytes -= bytes;
    this.#deal();
  }

  #deal(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#bytes > 0 && this.#bytes + next.bytes > this.#bytesMax) return;
      this.#waiting.shift();
      this.#bytes += next.bytes;
      next.start();
    }
  }
}
