/**
 * The shapes that an engine runs, in profiles by length. TensorRT plans the memory of a profile for
 * its largest shape and times its kernels at its optimum. One profile for every length would hold
 * memory for 64 texts of 8,192 tokens, which no batch has, and run documents on the kernels that
 * are best for queries.
 */

/** One shape of the inputs, `[textCount, tokenCount]`. */
export interface ProfileShape {
  readonly textCount: number;
  readonly tokenCount: number;
}

/** Batch and length between which a profile runs; `opt` is what its kernels are chosen for. */
export interface EngineProfile {
  readonly min: ProfileShape;
  readonly opt: ProfileShape;
  readonly max: ProfileShape;
}

/** What an engine is asked to hold. */
export interface ProfileSettings {
  /** Padded tokens (longest × texts) in one batch. */
  readonly batchTokensMax: number;
  /** Tokens of the longest text. */
  readonly tokensMax: number;
  readonly batchTextsMax: number;
}

/** What the server sends unless it is told otherwise: the default of `BATCH_TOKENS_MAX`. */
export const BATCH_TOKENS_MAX = 16_384;

/**
 * Longest texts of the profiles below the longest of all: a search query, a paragraph, a page.
 * Each is four or eight times the one before, so that a profile's kernels are never far from their
 * optimum.
 */
const PROFILE_LENGTHS = [64, 512, 2_048];

/** `<s>` and `</s>`. With one token the multi-vector output would be empty. */
const TOKENS_MIN = 2;

/**
 * The largest shape of each profile, by ascending length: all but the shortest hold the same number
 * of padded tokens. Pure.
 *
 * @returns for 16,384 tokens, 8,192 and 64 texts: 64×64, 32×512, 8×2,048, 2×8,192.
 */
export function planProfiles(settings: ProfileSettings): readonly ProfileShape[] {
  const { batchTokensMax, tokensMax, batchTextsMax } = settings;
  const lengths = [...PROFILE_LENGTHS.filter((length) => length < tokensMax), tokensMax];
  return lengths.map((tokenCount) => ({
    // One text is always taken.
    textCount: Math.max(1, Math.min(batchTextsMax, Math.floor(batchTokensMax / tokenCount))),
    tokenCount,
  }));
}

/**
 * The ranges of profiles. Their lengths follow one another without a gap or an overlap, so a shape
 * lies in one profile at most, and Triton has nothing to choose: its backend compares the optimum
 * of a length with the number of texts (`EvaluateTensorRTContext` of tensorrt_backend, r25.06 to
 * r26.07).
 *
 * @param shapes the largest of each profile, by ascending length.
 */
export function profileRanges(shapes: readonly ProfileShape[]): readonly EngineProfile[] {
  return shapes.map((max, index) => {
    const below = shapes[index - 1]?.tokenCount ?? TOKENS_MIN - 1;
    const minTokens = Math.min(below + 1, max.tokenCount);
    return {
      min: { textCount: 1, tokenCount: minTokens },
      opt: {
        // Queries come a few at a time, in their milliseconds; what is longer fills its batch.
        textCount: index === 0 ? Math.max(1, max.textCount >> 2) : max.textCount,
        tokenCount: Math.max(minTokens, max.tokenCount >> 1),
      },
      max,
    };
  });
}

/** Texts that an engine takes in one batch of this padded length; 0 when it is too long for it. */
export function textsOfLength(shapes: readonly ProfileShape[], paddedLength: number): number {
  return shapes.find(({ tokenCount }) => paddedLength <= tokenCount)?.textCount ?? 0;
}

/**
 * What a batch may be that any of several engines may get.
 *
 * @param engines the profiles of each; without any the result is empty.
 */
export function commonProfiles(
  engines: readonly (readonly ProfileShape[])[],
): readonly ProfileShape[] {
  const lengths = new Set(engines.flatMap((shapes) => shapes.map(({ tokenCount }) => tokenCount)));
  return [...lengths]
    .sort((a, b) => a - b)
    .map((tokenCount) => ({
      textCount: Math.min(...engines.map((shapes) => textsOfLength(shapes, tokenCount))),
      tokenCount,
    }))
    .filter(({ textCount }) => textCount > 0);
}

/** `64x64,32x512`: texts and tokens of the largest shapes, as config.pbtxt has them. */
export function formatProfiles(shapes: readonly ProfileShape[]): string {
  return shapes.map(({ textCount, tokenCount }) => `${textCount}x${tokenCount}`).join(',');
}

/**
 * Reads what `formatProfiles` wrote.
 *
 * @returns undefined when it is not such a list, its lengths do not ascend, or a longer profile
 * takes more texts: half of a batch must fit wherever the batch does.
 */
export function parseProfiles(text: string): readonly ProfileShape[] | undefined {
  const shapes: ProfileShape[] = [];
  for (const part of text.split(',')) {
    const [, textCount, tokenCount] = /^([1-9]\d{0,6})x([1-9]\d{0,6})$/.exec(part.trim()) ?? [];
    if (textCount === undefined || tokenCount === undefined) return undefined;
    const shape = { textCount: Number(textCount), tokenCount: Number(tokenCount) };
    const before = shapes.at(-1);
    if (before !== undefined && shape.tokenCount <= before.tokenCount) return undefined;
    if (before !== undefined && shape.textCount > before.textCount) return undefined;
    shapes.push(shape);
  }
  return shapes;
}
