/** What two runs of a model answered for one head of one text, or of a batch. Both borrowed. */
export interface AnswerPair {
  /** The shape and numbers of the run that is trusted. */
  readonly expected: Answer;
  /** Undefined when the run in question has no such output. */
  readonly found: Answer | undefined;
}

/** One output of one run: its shape and its numbers, row major. */
export interface Answer {
  readonly dims: readonly number[];
  readonly values: Float32Array;
}

/** How near one head of an engine comes to the model that it was made from. */
export interface HeadFigures {
  /** The least cosine over all texts; a text's rows count as one long row. */
  readonly cosineMin: number;
  /** The largest difference of two numbers. */
  readonly differenceMax: number;
  /** Values that are no finite numbers. */
  readonly notFinite: number;
  /** Outputs that are missing or of another shape. */
  readonly misshapen: number;
}

/** The verdict over all heads. */
export interface Fidelity {
  readonly passed: boolean;
  readonly heads: Readonly<Record<string, HeadFigures>>;
  /** A sentence with figures for each reason to refuse. */
  readonly reasons: readonly string[];
}

/**
 * The least cosine that an engine may have with its model. Float16 of BGE-M3 was measured at
 * 0.99991 or better, int8 at 0.96: 0.9998 lets the first through, and nothing that changes a
 * ranking.
 */
export const COSINE_MIN = 0.9998;

/** Compares answers head by head and judges them. A head without any pair is a reason to refuse. */
export function judgeFidelity(
  pairs: Readonly<Record<string, readonly AnswerPair[]>>,
  cosineMin: number = COSINE_MIN,
): Fidelity {
  const heads: Record<string, HeadFigures> = {};
  const reasons: string[] = [];
  for (const [head, answers] of Object.entries(pairs)) {
    const figures = measureHead(answers);
    heads[head] = figures;
    const count = `of ${answers.length} answers`;
    if (answers.length === 0) reasons.push(`${head}: nothing was compared.`);
    if (figures.misshapen > 0) {
      const shapes = describeShapes(answers);
      reasons.push(`${head}: ${figures.misshapen} ${count} missing or misshapen (${shapes}).`);
    }
    if (figures.notFinite > 0) reasons.push(`${head}: ${figures.notFinite} values not finite.`);
    // Written so that NaN refuses.
    if (!(figures.cosineMin >= cosineMin)) {
      reasons.push(
        `${head}: cosine ${figures.cosineMin.toFixed(6)}, at least ${cosineMin} wanted.`,
      );
    }
  }
  return { passed: reasons.length === 0, heads, reasons };
}

/**
 * Cosine of two rows of equal length; one when both are zero, as an unused sparse row may be, and
 * NaN when a value is not finite.
 */
export function cosineOf(a: Float32Array, b: Float32Array): number {
  let [dot, lengthA, lengthB] = [0, 0, 0];
  for (let index = 0; index < a.length; index += 1) {
    const [x, y] = [a[index] ?? 0, b[index] ?? 0];
    dot += x * y;
    lengthA += x * x;
    lengthB += y * y;
  }
  if (lengthA === 0 && lengthB === 0) return 1;
  if (lengthA === 0 || lengthB === 0) return 0;
  return dot / Math.sqrt(lengthA * lengthB);
}

function measureHead(answers: readonly AnswerPair[]): HeadFigures {
  let cosineMin = 1;
  let [differenceMax, notFinite, misshapen] = [0, 0, 0];
  for (const { expected, found } of answers) {
    if (found?.dims.join() !== expected.dims.join()) {
      misshapen += 1;
      continue;
    }
    notFinite += found.values.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0);
    const cosine = cosineOf(expected.values, found.values);
    cosineMin = Math.min(cosineMin, cosine);
    expected.values.forEach((value, index) => {
      differenceMax = Math.max(differenceMax, Math.abs(value - (found.values[index] ?? 0)));
    });
  }
  return { cosineMin, differenceMax, notFinite, misshapen };
}

function describeShapes(answers: readonly AnswerPair[]): string {
  const wrong = answers.find(({ expected, found }) => found?.dims.join() !== expected.dims.join());
  const found = wrong?.found === undefined ? 'nothing' : `[${wrong.found.dims}]`;
  return `[${wrong?.expected.dims}] wanted, ${found} given`;
}
