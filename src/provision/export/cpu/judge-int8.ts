import { cosineOf } from '../../../model/fidelity.ts';
import type { Int8Fidelity } from '../../../model/int8-record.ts';
import type { ModelManifest } from '../../../model/manifest.ts';
import { multiVectorScore } from '../../../vectors/score.ts';
import { joinTokenWeights } from '../../../vectors/sparse.ts';
import { gateTextIds } from '../run-gate.ts';
import type { HeadAnswers, LayerWalk } from './walk-layers.ts';

/** Below this for any text, float32 serves: the ranking of near texts would change. */
export const COSINE_MIN = 0.995;
/** And below this on average. */
const COSINE_MEAN_MIN = 0.998;
/** Ids that a search looks at; those below weigh little. */
const TOP_IDS = 20;
/** Beyond it there is one text, the longest: long ones take most of an export's time and memory. */
const SHORT_TOKENS_MAX = 2_048;
const PAIRS_MAX = 20;
/** The scores of two texts beyond this take longer than they tell. */
const PAIR_TOKENS_MAX = 512;

/**
 * Token ids of the texts that int8 is judged by: the short ones of the engine's gate, each of them
 * joined with the next, and its longest, of 8,000 tokens.
 */
export function int8GateTexts(tokensMax: number): number[][] {
  const texts = gateTextIds(tokensMax);
  const words = texts.map((ids) => ids.slice(1, -1));
  const [first, last] = [texts[0]?.[0] ?? 0, texts[0]?.at(-1) ?? 0];
  const joined = words.map((one, index) => [first, ...one, ...(words[index + 1] ?? []), last]);
  const longest = Math.max(...texts.map(({ length }) => length));
  return [...texts, ...joined.slice(0, -1)].filter(
    ({ length }) => length === longest || length <= Math.min(tokensMax, SHORT_TOKENS_MAX),
  );
}

/** Judges int8 by what float32 answers to the same texts. Pure. */
export function judgeInt8(
  texts: readonly (readonly number[])[],
  answers: LayerWalk['answers'],
  outputs: ModelManifest['outputs'],
): Int8Fidelity {
  const of = (name: string | undefined) =>
    answers.map(({ float32, int8 }) => ({ a: valuesOf(float32, name), b: valuesOf(int8, name) }));
  const cosines = of(outputs.dense).map(({ a, b }) => cosineOf(a, b));
  const cosineMin = Math.min(...cosines);
  const cosineMean = cosines.reduce((sum, one) => sum + one, 0) / cosines.length;
  const reasons: string[] = [];
  // Written so that NaN refuses.
  if (!(cosineMin >= COSINE_MIN)) {
    reasons.push(`the least cosine is ${cosineMin.toFixed(4)}, at least ${COSINE_MIN} is wanted`);
  }
  if (!(cosineMean >= COSINE_MEAN_MIN)) {
    const wanted = `at least ${COSINE_MEAN_MIN} is wanted`;
    reasons.push(`the mean cosine is ${cosineMean.toFixed(4)}, ${wanted}`);
  }
  const sparse = of(outputs.sparse).map((pair, text) => compareSparse(texts[text], pair));
  const vectors = of(outputs.multi_vector);
  return {
    passed: reasons.length === 0,
    reasons,
    textCount: texts.length,
    tokensMax: Math.max(...texts.map(({ length }) => length)),
    dense: { cosineMin, cosineMean },
    ...(outputs.sparse === undefined
      ? {}
      : {
          sparse: {
            sharedMin: Math.min(...sparse.map(({ shared }) => shared)),
            differenceMax: Math.max(...sparse.map(({ difference }) => difference)),
          },
        }),
    ...(outputs.multi_vector === undefined ? {} : { multiVector: compareScores(texts, vectors) }),
  };
}

interface Pair {
  readonly a: Float32Array;
  readonly b: Float32Array;
}

function valuesOf(answers: HeadAnswers, name: string | undefined): Float32Array {
  return answers[name ?? '']?.values ?? new Float32Array();
}

function compareSparse(ids: readonly number[], { a, b }: Pair) {
  const tokens = Int32Array.from(ids);
  const [exact, found] = [a, b].map((weights) => topOf(joinTokenWeights(tokens, weights)));
  const shared = [...exact.keys()].filter((id) => found.has(id)).length;
  const differences = a.map((weight, at) => Math.abs(weight - b[at]));
  return {
    shared: exact.size === 0 ? 1 : shared / exact.size,
    difference: differences.reduce((most, one) => Math.max(most, one), 0),
  };
}

function topOf({ indices, values }: ReturnType<typeof joinTokenWeights>): Map<number, number> {
  const entries = Array.from(indices, (id, at) => [id, values[at]] as const);
  return new Map(entries.sort((a, b) => b[1] - a[1]).slice(0, TOP_IDS));
}

function compareScores(texts: readonly (readonly number[])[], vectors: readonly Pair[]) {
  const short = vectors.filter((_, text) => texts[text].length <= PAIR_TOKENS_MAX);
  const lengths = texts.filter(({ length }) => length <= PAIR_TOKENS_MAX);
  const pairs = short.slice(0, PAIRS_MAX).map((query, at) => {
    const next = (at + 1) % short.length;
    // A row for each token but the first.
    const dimension = query.a.length / (lengths[at].length - 1);
    const score = (form: 'a' | 'b') =>
      runToEnd(multiVectorScore({ query: query[form], text: short[next][form], dimension }, 1e9));
    return Math.abs(score('a') - score('b'));
  });
  return { pairCount: pairs.length, differenceMax: Math.max(...pairs) };
}

function runToEnd(steps: Generator<void, number>): number {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}
